// Greets whoever the event names, and says where it ran.

let started = false;

export const handler = async (event, context) => {
  const coldStart = !started;
  started = true;
  const name = event?.name ?? "world";
  console.log(`greeting ${name}`);
  return {
    message: `Hello, ${name}!`,
    coldStart,
    runtime: `Node.js ${process.versions.node}`,
    requestId: context.awsRequestId,
    remainingMs: context.getRemainingTimeInMillis(),
  };
};
