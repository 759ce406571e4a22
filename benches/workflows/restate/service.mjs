// A service whose one handler journals as many steps as it is told, each the least that a step can be.

// The SDK wants a newer Node than some machines have; this is all that it misses in Node 20.
Promise.withResolvers ??= function () {
  let resolve, reject;
  const promise = new Promise((a, b) => {
    resolve = a;
    reject = b;
  });
  return { promise, resolve, reject };
};

const restate = await import("@restatedev/restate-sdk");

const bench = restate.service({
  name: "bench",
  handlers: {
    steps: async (context, count) => {
      let sum = 0;
      for (let step = 0; step < count; step++) {
        sum += await context.run(`step ${step}`, () => step);
      }
      return sum;
    },
  },
});

restate.serve({ services: [bench], port: Number(process.argv[2]) });
