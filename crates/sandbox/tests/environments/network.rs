//! The way out, and what must not lie on it. As root only: a small world is built on the host.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command as Host;

use sandbox::{Config, Egress, Sandbox, Sandboxes, Spec, Status};

use crate::harness::{Outcome, config, enter, eventually, py, rootless, skip};
use crate::tests;

tests![
    functions_reach_the_world_but_nothing_nearer,
    nothing_of_the_way_out_survives,
    without_privileges_there_is_no_way_out,
];

/// A network namespace beside the host's, reachable only through the host.
struct World {
    name: String,
    interface: String,
}

const HOST_END: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const WORLD_END: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

fn host(command: &str) -> anyhow::Result<String> {
    let output = Host::new("/bin/sh").arg("-c").arg(command).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{command}: {text}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl World {
    fn build() -> anyhow::Result<Self> {
        let id = std::process::id();
        let this = Self {
            name: format!("world{id}"),
            interface: format!("w{id}"),
        };
        let Self { name, interface } = &this;
        host(&format!(
            "ip netns add {name} && ip link add {interface} type veth peer name eth0 netns {name} && \
             ip addr add {HOST_END}/30 dev {interface} && ip link set {interface} up && \
             ip -n {name} addr add {WORLD_END}/30 dev eth0 && ip -n {name} link set lo up && \
             ip -n {name} link set eth0 up && ip -n {name} addr add 169.254.169.254/32 dev eth0 && \
             ip route add 169.254.169.254/32 via {WORLD_END}"
        ))?;
        Ok(this)
    }

    /// Answers every connection with the address that it came from.
    fn serve(&self) -> anyhow::Result<std::process::Child> {
        let script = "import socket\ns = socket.create_server(('0.0.0.0', 8080))\nprint('up', flush=True)\n\
                      while True:\n  c, a = s.accept(); c.sendall(a[0].encode()); c.close()";
        let mut child = Host::new("ip")
            .args([
                "netns",
                "exec",
                &self.name,
                "/usr/bin/python3",
                "-c",
                script,
            ])
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| anyhow::anyhow!("no stdout"))?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut String::new())?;
        Ok(child)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = host(&format!(
            "ip link del {}; ip netns del {}",
            self.interface, self.name
        ));
    }
}

async fn connect(sandbox: &Sandbox, address: &str, port: u16) -> anyhow::Result<String> {
    let script = format!(
        "import socket\ns = socket.socket(); s.settimeout(1.5)\ntry:\n  s.connect(('{address}', \
         {port})); print('in', s.recv(64).decode())\nexcept OSError as e: print('out', \
         type(e).__name__)"
    );
    py(sandbox, &script).await
}

async fn functions_reach_the_world_but_nothing_nearer() -> Outcome {
    if rootless() || host("ip -V").is_err() {
        return skip("needs root and the ip program");
    }
    let sandboxes = Sandboxes::start(Config {
        egress: Egress::Nat,
        ..config()
    })?;
    let world = World::build()?;
    let mut server = tokio::task::block_in_place(|| world.serve())?;
    let services = TcpListener::bind("0.0.0.0:0")?;
    let port = services.local_addr()?.port();

    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let neighbour = enter(&sandboxes, Spec::default()).await?;
    let own = "import fcntl, socket, struct\ns = socket.socket()\nprint(socket.inet_ntoa(fcntl.ioctl(s, \
               0x8915, struct.pack('256s', b'eth0'))[20:24]))";
    let (address, next) = (py(&sandbox, own).await?, py(&neighbour, own).await?);
    assert_ne!(address, next);
    let gateway = Ipv4Addr::from(u32::from(address.parse::<Ipv4Addr>()?) - 1).to_string();

    let result = async {
        let answer = connect(&sandbox, &WORLD_END.to_string(), 8080).await?;
        anyhow::ensure!(answer == format!("in {HOST_END}"), "the world sees the host: {answer}");
        // Somebody listens at every one of these, or would if the packets arrived.
        let listen = "import socket, time\ns = socket.create_server(('0.0.0.0', 8080))\nprint('up', \
                      flush=True)\ntime.sleep(60)";
        let mut listening = neighbour.spawn(crate::harness::python(listen)).await?;
        crate::harness::wait_for_line(&mut listening).await?;
        for (what, address, port) in [
            ("the host by its address there", HOST_END.to_string(), port),
            ("the host by its end of the link", "198.18.0.0".to_owned(), port),
            ("the router", gateway.clone(), port),
            ("a neighbour", next.clone(), 8080),
            ("the cloud's metadata", "169.254.169.254".to_owned(), 8080),
        ] {
            let answer = connect(&sandbox, &address, port).await?;
            anyhow::ensure!(answer.starts_with("out"), "{what}: {answer}");
        }
        // Not even the host itself gets in.
        let inward = format!("/usr/bin/timeout 1 /bin/bash -c 'echo > /dev/tcp/{next}/8080'");
        anyhow::ensure!(host(&inward).is_err(), "the host reached an environment");
        let denied = Spec { egress: Some(Egress::Deny), ..Spec::default() };
        let denied = enter(&sandboxes, denied).await?;
        let answer = connect(&denied, &WORLD_END.to_string(), 8080).await?;
        anyhow::ensure!(answer == "out OSError", "denied: {answer}");
        // One function cannot fill the host's table of connections for the others.
        let flood = format!(
            "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
             for port in range(20000, 24000):\n  try: s.sendto(b'x', ('{WORLD_END}', port))\n  \
             except OSError: pass"
        );
        py(&neighbour, &flood).await?;
        let answer = connect(&neighbour, &WORLD_END.to_string(), 8080).await?;
        anyhow::ensure!(answer.starts_with("out"), "the flood was not stopped: {answer}");
        let answer = connect(&sandbox, &WORLD_END.to_string(), 8080).await?;
        anyhow::ensure!(answer.starts_with("in"), "the others are cut off: {answer}");
        Ok(())
    }
    .await;
    server.kill()?;
    server.wait()?;
    drop(world);
    sandboxes.shutdown().await;
    result
}

async fn nothing_of_the_way_out_survives() -> Outcome {
    if rootless() {
        return skip("needs root");
    }
    let interfaces = || {
        let entries = std::fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter(|name| name.starts_with("firn"))
            .collect::<Vec<_>>()
    };
    let before = interfaces();
    let forwarding =
        || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
    let forwarded = forwarding();
    let sandboxes = Sandboxes::start(config())?;
    if sandboxes
        .checks()
        .iter()
        .any(|c| c.name.contains("network") && c.status != Status::Ok)
    {
        return skip("this host has no way out to offer");
    }
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    assert_eq!(interfaces().len(), before.len() + 1);
    assert_eq!(forwarding().trim(), "1");
    sandboxes.shutdown().await;
    drop(sandbox);
    eventually("the interface is gone", || {
        interfaces().len() <= before.len()
    })
    .await?;
    if before.is_empty() {
        assert_eq!(forwarding(), forwarded);
    }
    Ok(())
}

async fn without_privileges_there_is_no_way_out() -> Outcome {
    if !rootless() {
        return Ok(());
    }
    let error = Sandboxes::start(Config {
        egress: Egress::Nat,
        ..config()
    });
    assert!(error.is_err_and(|err| err.to_string().contains("egress")));
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    assert!(connect(&sandbox, "192.0.2.1", 80).await?.starts_with("out"));
    Ok(())
}
