/** Who may do what on a real NATS server: credentials, TLS, permissions of the two roles, sealed messages. */
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect, nkeys } from "@nats-io/transport-node";
import { describe, expect, it, onTestFinished } from "vitest";
import { makeCertificates } from "#bin/certs/certs-cli.ts";
import { encodeChangeBatch } from "#proto/codec/change-batch.ts";
import { busSubjects } from "#shared/bus-subjects.ts";
import type { NatsConfig } from "#shared/runtime/nats-settings.ts";
import { ROOT } from "#test/processes/minikv.ts";
import type { NatsServer } from "#test/processes/nats-server.ts";
import { findProgram, skippedWithout } from "#test/processes/programs.ts";
import {
  batchOf,
  CLUSTER,
  configOf,
  open,
  SEVEN,
  secretFile,
  startGateway,
  startNats,
  startNode,
  temporaryDirectory,
} from "./bus-fixture.ts";

const eventually = { timeout: 20_000, interval: 20 };
const subjects = busSubjects(CLUSTER);

/** Certificates as `minikv certs dev` makes them, in `certs` below a directory. */
function certificates(hosts: readonly string[]): string {
  const directory = temporaryDirectory();
  const certs = join(directory, "certs");
  makeCertificates(certs, hosts);
  copyFileSync(join(certs, "storage-node.pem"), join(certs, "nats.pem"));
  copyFileSync(join(certs, "storage-node-key.pem"), join(certs, "nats-key.pem"));
  return directory;
}

/** The server of the documentation, as it stands. */
async function startExample(hosts: readonly string[] = ["127.0.0.1"]) {
  const directory = certificates(hosts);
  const server = await startNats({
    config: readFileSync(join(ROOT, "infra/nats/nats-server.conf"), "utf8").replace(
      /^http:.*$/m,
      "",
    ),
    directory,
    env: { NATS_NODE_PASSWORD: "node-secret", NATS_GATEWAY_PASSWORD: "gateway-secret" },
  });
  const tls = tlsOf(server, directory);
  const nodePassword = secretFile("node-secret\n");
  return {
    server,
    tls,
    nodePassword,
    node: configOf(server, { ...tls, natsUser: "minikv-node", natsPasswordFile: nodePassword }),
    gateway: configOf(server, {
      ...tls,
      natsUser: "minikv-gateway",
      natsPassword: "gateway-secret",
    }),
  };
}

const tlsOf = (server: NatsServer, directory: string): Partial<NatsConfig> => ({
  natsUrl: server.url.replace("nats://", "tls://"),
  natsTlsCa: join(directory, "certs", "ca.pem"),
});

/** Somebody with a client of their own. */
async function stranger(server: NatsServer) {
  const connection = await connect({ servers: [server.address] });
  onTestFinished(() => connection.close());
  return connection;
}

describe.skipIf(findProgram("nats-server") === undefined)(
  `over NATS${skippedWithout("nats-server")}`,
  () => {
    it("the documented server lets nodes publish and gateways listen, and neither do more", async () => {
      const example = await startExample();
      const node = await startNode(example.node);
      const gateway = await startGateway(example.gateway);
      await expect.poll(() => gateway.live.silenceMs(SEVEN), eventually).toBeLessThan(2_000);
      node.apply(3);
      await expect.poll(() => gateway.revisions(), eventually).toEqual([1, 2, 3]);
      // A gateway that forges a batch, and a node that listens in.
      gateway.bus.bus.publish(subjects.changesOf(SEVEN), encodeChangeBatch(batchOf(3)));
      gateway.bus.bus.publish(subjects.changesOf(SEVEN), encodeChangeBatch(batchOf(4)));
      let overheard = 0;
      node.bus.bus.subscribe(subjects.changesOf(SEVEN), () => overheard++);
      const refused = expect.objectContaining({
        level: "warn",
        detail: expect.stringContaining("ermissions"),
      });
      await expect.poll(gateway.bus.messages, eventually).toContainEqual(refused);
      await expect.poll(node.bus.messages, eventually).toContainEqual(refused);
      node.apply();
      await expect.poll(() => gateway.revisions(), eventually).toEqual([1, 2, 3, 4]);
      expect(overheard).toBe(0);
      // Once, though two were refused.
      expect(gateway.bus.messages().filter(({ detail }) => detail !== undefined)).toHaveLength(1);
    });

    it("wrong credentials are told once, without them, and new ones in the file are found", async () => {
      const example = await startExample();
      writeFileSync(example.nodePassword, "wrong-secret");
      const node = await open(example.node);
      node.start();
      await expect.poll(() => node.bus.figures().connectFailures, eventually).toBeGreaterThan(2);
      expect(node.bus.isConnected).toBe(false);
      expect(node.messages()).toEqual([
        expect.objectContaining({ reason: expect.stringMatching(/authorization violation/i) }),
      ]);
      writeFileSync(example.nodePassword, "node-secret");
      await expect.poll(() => node.bus.isConnected, eventually).toBe(true);
      expect(node.lines.join("")).not.toMatch(/wrong-secret|node-secret/);
    });

    it("TLS is no less than asked for: another authority, another host and a plain server are refused", async () => {
      const reasonOf = async (config: NatsConfig): Promise<unknown> => {
        const { start, messages, bus } = await open(config);
        start();
        await expect.poll(messages, eventually).not.toHaveLength(0);
        expect(bus.isConnected).toBe(false);
        return messages()[0]?.reason;
      };
      const example = await startExample();
      const other = certificates(["127.0.0.1"]);
      const natsTlsCa = join(other, "certs", "ca.pem");
      expect(await reasonOf({ ...example.node, natsTlsCa })).toMatch(/certificate/);
      const elsewhere = await startExample(["localhost"]);
      // An address is held against the certificate's addresses, not against "localhost".
      expect(await reasonOf(elsewhere.node)).toMatch(/altname|IP/i);
      const plain = await startNats();
      expect(await reasonOf({ ...configOf(plain), ...tlsOf(plain, other) })).toMatch(/tls/);
      // And no TLS where none was asked for.
      expect(await reasonOf(configOf(example.server))).toBeTypeOf("string");
    });

    it("mutual TLS, a token and an NKey are credentials too", async () => {
      const directory = certificates(["127.0.0.1"]);
      const certs = join(directory, "certs");
      const key = nkeys.createUser();
      const seed = Buffer.from(key.getSeed()).toString();
      const mutual = await startNats({
        directory,
        config:
          'tls { cert_file: "certs/nats.pem", key_file: "certs/nats-key.pem", ca_file: "certs/ca.pem", verify: true }\n' +
          `authorization { users: [{ nkey: "${key.getPublicKey()}" }] }`,
      });
      const config = configOf(mutual, {
        ...tlsOf(mutual, directory),
        natsTlsCert: join(certs, "gateway.pem"),
        natsTlsKey: join(certs, "gateway-key.pem"),
        natsNkeyFile: secretFile(`${seed}\n`),
      });
      const token = await startNats({ config: 'authorization { token: "a-token" }' });
      const natsTokenFile = secretFile("a-token");
      for (const each of [config, configOf(token, { natsTokenFile })]) {
        const { start, bus } = await open(each);
        start();
        await expect.poll(() => bus.isConnected, eventually).toBe(true);
      }
      const without = await open({ ...config, natsTlsCert: "", natsTlsKey: "" });
      without.start();
      await expect.poll(() => without.bus.figures().connectFailures, eventually).toBeGreaterThan(0);
      expect(without.bus.isConnected).toBe(false);
    });

    it("sealed messages can be neither read nor forged by who can do everything on the server", async () => {
      const nats = await startNats();
      const natsSealKey = Buffer.alloc(32, 7).toString("base64");
      const config = configOf(nats, { natsSealKey });
      const intruder = await stranger(nats);
      const seen: Uint8Array[] = [];
      intruder.subscribe("minikv.>", { callback: (_, message) => void seen.push(message.data) });
      await intruder.flush();
      const node = await startNode(config);
      const gateway = await startGateway(config);
      await expect.poll(() => gateway.live.silenceMs(SEVEN), eventually).toBeLessThan(2_000);
      intruder.publish(subjects.changesOf(SEVEN), encodeChangeBatch(batchOf(0, 9)));
      await intruder.flush();
      node.apply(1);
      await expect.poll(() => gateway.revisions(), eventually).toEqual([1]);
      expect(gateway.bus.bus.figures().messagesRefused).toBe(1);
      expect(gateway.bus.lines.join("")).toContain("not sealed under a key of ours");
      expect(seen.length).toBeGreaterThan(1);
      // Its own forgery apart.
      expect(seen.filter((message) => Buffer.from(message).includes("key-"))).toHaveLength(1);
    });

    it("without a key a forged batch looks like a true one: permissions are all there is", async () => {
      const nats = await startNats();
      const intruder = await stranger(nats);
      const node = await startNode(configOf(nats));
      const gateway = await startGateway(configOf(nats));
      await expect.poll(() => gateway.live.silenceMs(SEVEN), eventually).toBeLessThan(2_000);
      intruder.publish(subjects.changesOf(SEVEN), encodeChangeBatch(batchOf(0, 2)));
      intruder.publish(subjects.changesOf(SEVEN), Buffer.from("no batch at all"));
      await intruder.flush();
      node.apply(1);
      await expect.poll(() => gateway.revisions(), eventually).toEqual([1, 2, 1]);
      expect(gateway.live.figures().messagesMalformed).toBe(1);
    });
  },
);
