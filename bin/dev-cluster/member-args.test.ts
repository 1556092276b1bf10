import { expect, it } from "vitest";
import { devConfig } from "#bin/dev-config.ts";
import { gatewayConfig } from "#gateway/config.ts";
import { loadConfig } from "#shared/runtime/config.ts";
import {
  gatewayArgs,
  gatewayEnv,
  nodeIdIn,
  storageNodeArgs,
  storageNodeEnv,
} from "./member-args.ts";
import { newState, withNodes } from "./state.ts";

const nothing = { argv: [], env: {}, readFile: () => "" };
const { config } = loadConfig(devConfig, nothing);
const state = withNodes(newState("dev-1", [21_001, 21_002], ["z"]), [21_003], []);
const [founder, , joiner] = state.nodes;

const nodeArgs = (place: typeof founder): string =>
  storageNodeArgs(place!, { state, config, dataDir: "/d" }).join(" ");

it("storageNodeArgs() gives founders the same seeds, and how many they are", () => {
  const args = nodeArgs(founder);
  expect(args).toContain("--seeds 127.0.0.1:21001,127.0.0.1:21002 --bootstrap-expect 2 ");
  expect(args).toContain("--listen 127.0.0.1:21001 --advertise 127.0.0.1:21001");
  expect(args).toContain("--host-name node-1 --zone z ");
});

it("storageNodeArgs() lets a later node join, and found nothing", () => {
  const args = nodeArgs(joiner);
  expect(args).toContain("--seeds 127.0.0.1:21001,127.0.0.1:21002 ");
  expect(args).not.toContain("--bootstrap-expect");
  expect(args).not.toContain("--zone");
});

it("gatewayArgs() names every node, in settings that a gateway has", () => {
  const listen = { host: "127.0.0.1", port: 8080 };
  const [program, ...argv] = gatewayArgs(listen, { state, config });
  expect(program).toBe("gateway");
  expect(argv.join(" ")).toContain("127.0.0.1:21001,127.0.0.1:21002,127.0.0.1:21003");
  // Whether so many nodes are accepted is for the gateway to say.
  const { settings } = gatewayConfig;
  const { config: read } = loadConfig(
    { ...gatewayConfig, settings, validate: () => undefined },
    {
      ...nothing,
      argv,
    },
  );
  expect(read).toMatchObject({ listen, clusterId: "dev-1", logLevel: "info" });
  expect(read.shutdownTimeoutMs).toBeLessThan(config.shutdownTimeoutMs / 2);
});

it("gatewayArgs() and gatewayEnv() pass on what a gateway is told, secrets as variables", () => {
  const rootKey = "mkv_0123456789ABCDEF_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG2fuGbC";
  const env = { MINIKV_ROOT_KEY: rootKey, MINIKV_AUTH_STALENESS_MAX: "2m" };
  const told = loadConfig(devConfig, { ...nothing, env }).config;
  const listen = { host: "127.0.0.1", port: 8080 };
  const [, ...argv] = gatewayArgs(listen, { state, config: told });
  const read = loadConfig(
    { ...gatewayConfig, validate: () => undefined },
    { ...nothing, argv, env: gatewayEnv(told) },
  ).config;
  expect(read).toMatchObject({ auth: "required", rootKey, authStalenessMaxMs: 120_000 });
  expect(argv.join(" ")).not.toContain("mkv_");
  expect(gatewayArgs(listen, { state, config })).toContain("--auth=off");
  expect(gatewayEnv(config)).toEqual({});
});

it.each([
  ["minikv storage-node 1.0.0 serves gRPC on 127.0.0.1:1, node 7 of cluster c, data in /d", 7],
  ["minikv storage-node 1.0.0 serves gRPC on 127.0.0.1:1, data in /tmp/node 3/d", null],
  [undefined, null],
])("nodeIdIn() of %s is %s", (line, id) => {
  expect(nodeIdIn(line)).toBe(id);
});

it("both kinds of member are told of the bus, secrets as variables", () => {
  const env = { MINIKV_NATS_PASSWORD: "hunter2" };
  const argv = ["--nats-url", "nats://127.0.0.1:4222", "--nats-user", "u"];
  const told = loadConfig(devConfig, { ...nothing, argv, env }).config;
  const listen = { host: "127.0.0.1", port: 8080 };
  const lines = [
    storageNodeArgs(founder!, { state, config: told, dataDir: "/d" }),
    gatewayArgs(listen, { state, config: told }),
  ].map((args) => args.join(" "));
  for (const line of lines) {
    expect(line).toContain("--nats-url=nats://127.0.0.1:4222 --nats-user=u");
    expect(line).not.toContain("hunter2");
  }
  expect(storageNodeEnv(told)).toEqual(env);
  expect(gatewayEnv(told)).toEqual(env);
  expect(storageNodeEnv(config)).toEqual({});
  expect(nodeArgs(founder)).not.toContain("nats");
});
