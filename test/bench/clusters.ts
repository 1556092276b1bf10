/**
 * Servers of several processes: a cluster of minikv with one gateway, and etcd with so many members. All
 * on this machine, so they share its processors and its disk; etcd's clients ask one member, as those of
 * minikv ask one gateway.
 *
 * Both run with their default settings, but for etcd's quota: its default of 2 GiB would be full within a
 * minute of large values, and it changes when etcd refuses, not how fast it is.
 */
import { join } from "node:path";
import { etcdProtocol, minikvProtocol } from "./protocol.ts";
import {
  freePort,
  type Program,
  type RunningServer,
  type StartInput,
  start,
  withoutSettings,
} from "./servers.ts";

const ETCD_QUOTA_BYTES = 8 * 1024 ** 3;

/** `nodes` storage nodes and a gateway of this checkout. */
export async function startMinikvCluster(
  input: StartInput & { readonly root: string; readonly nodes: number },
): Promise<RunningServer> {
  const command = join(input.root, "bin", "minikv");
  const env = withoutSettings("MINIKV_", "OTEL_");
  const addresses: string[] = [];
  for (let i = 0; i < input.nodes; i++) addresses.push(`127.0.0.1:${await freePort()}`);
  const seeds = addresses.join(",");
  const nodes = addresses.map(
    (address, i): Program => ({
      name: `node-${i + 1}`,
      command,
      args: [
        ...[
          "storage-node",
          "--listen",
          address,
          "--data-dir",
          join(input.directory, `node-${i + 1}`),
        ],
        ...[
          "--seeds",
          seeds,
          "--bootstrap-expect",
          String(input.nodes),
          "--host-name",
          `h${i + 1}`,
        ],
      ],
      env,
    }),
  );
  const port = await freePort();
  const gateway: Program = {
    name: "gateway",
    command,
    args: ["gateway", "--listen", `127.0.0.1:${port}`, "--storage", seeds, "--auth", "off"],
    env,
  };
  return await start(input, { protocol: minikvProtocol, port, programs: [...nodes, gateway] });
}

export async function startEtcdCluster(
  input: StartInput & { readonly path: string; readonly nodes: number },
): Promise<RunningServer> {
  const members: { name: string; port: number; peerUrl: string }[] = [];
  for (let i = 1; i <= input.nodes; i++) {
    const port = await freePort();
    members.push({ name: `bench${i}`, port, peerUrl: `http://127.0.0.1:${await freePort()}` });
  }
  const initial = members.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(",");
  const programs = members.map(({ name, port, peerUrl }): Program => {
    const clientUrl = `http://127.0.0.1:${port}`;
    return {
      name,
      command: input.path,
      args: [
        `--name=${name}`,
        `--data-dir=${join(input.directory, name)}`,
        `--listen-client-urls=${clientUrl}`,
        `--advertise-client-urls=${clientUrl}`,
        `--listen-peer-urls=${peerUrl}`,
        `--initial-advertise-peer-urls=${peerUrl}`,
        `--initial-cluster=${initial}`,
        `--quota-backend-bytes=${ETCD_QUOTA_BYTES}`,
      ],
      env: {
        ...withoutSettings("ETCD_"),
        // etcd asks for this word before it runs on arm64 at all.
        ...(process.arch === "x64" ? {} : { ETCD_UNSUPPORTED_ARCH: process.arch }),
      },
    };
  });
  return await start(input, { protocol: etcdProtocol, port: members[0]!.port, programs });
}
