/** Mutual TLS between nodes: certificates of one authority, and of others, over real gRPC. */
import { X509Certificate } from "node:crypto";
import { afterEach, describe, expect, it } from "vitest";
import {
  type GrpcCredentials,
  insecureCredentials,
  tlsCredentials,
} from "#shared/runtime/grpc-credentials.ts";
import { createAuthority } from "./testing/certificates.ts";
import { append, cleanUp, introduce, startNode, startNodes, until, vote } from "./testing/nodes.ts";

afterEach(cleanUp);

const authority = createAuthority("minikv test");
const HOST = "127.0.0.1";
const credentials = tlsCredentials(authority.issue(HOST));

describe("the certificates of these tests", () => {
  it("are what OpenSSL takes for certificates", () => {
    const ca = new X509Certificate(authority.ca);
    const cert = new X509Certificate(authority.issue(HOST).cert);
    expect(ca.ca).toBe(true);
    expect(ca.verify(ca.publicKey)).toBe(true);
    expect(cert.verify(ca.publicKey)).toBe(true);
    expect(cert.checkIP(HOST)).toBe(HOST);
  });
});

describe("GrpcTransport under mutual TLS", () => {
  it("carries messages and snapshots between nodes of one authority", async () => {
    const nodes = await startNodes(2, { credentials });
    const three = await startNode(3, { credentials: tlsCredentials(authority.issue(HOST)) });
    await introduce([...nodes, three]);
    const payloads: Uint8Array[] = [];
    three.onSnapshotStream = (_, stream) => {
      stream.listen({
        onMessage: (bytes) => payloads.push(bytes),
        onDrain: () => {},
        onClosed: () => {},
      });
    };
    const pair = { from: nodes[0]!, to: three };
    const messages = [vote(pair), append(pair, new Uint8Array(2_000_000))];
    nodes[0]!.transport.send(messages);
    const stream = nodes[0]!.transport.openSnapshotStream(three.id)!;
    stream.listen({ onMessage: () => {}, onDrain: () => {}, onClosed: () => {} });
    stream.write(Uint8Array.of(1, 2, 3));
    await until(() => three.messages.length === 2 && payloads.length === 1);
    expect(three.messages).toEqual(expect.arrayContaining(messages));
    expect([...payloads[0]!]).toEqual([1, 2, 3]);
  });

  const stranger = createAuthority("somebody else");
  const peers: readonly (readonly [string, () => GrpcCredentials])[] = [
    ["without TLS", insecureCredentials],
    ["with a certificate of another authority", () => tlsCredentials(stranger.issue(HOST))],
    [
      "that trusts the authority and has a certificate of another",
      () => tlsCredentials({ ...stranger.issue(HOST), ca: authority.ca }),
    ],
  ];
  it.each(peers)("refuses a peer %s, whichever of them dials", async (_, strange) => {
    const trusted = await startNode(2, { credentials });
    const lower = await startNode(1, { credentials: strange() });
    const higher = await startNode(3, { credentials: strange() });
    lower.know([trusted]);
    trusted.know([lower], [higher]);
    higher.know([trusted]);
    await until(() => lower.events.length > 0 && trusted.events.length > 0);
    expect(lower.events).toMatchObject([{ kind: "lost", node: 2 }]);
    expect(trusted.events).toMatchObject([{ kind: "lost", node: 3 }]);
    expect(higher.events).toEqual([]);
  });

  it("does not take a server whose certificate names another host", async () => {
    const one = await startNode(1, { credentials });
    const two = await startNode(2, { credentials: tlsCredentials(authority.issue("10.0.0.1")) });
    one.know([two]);
    two.know([one]);
    await until(() => one.events.length > 0);
    expect(one.events).toMatchObject([
      { kind: "lost", node: 2, reason: expect.stringContaining("IP: 127.0.0.1 is not in") },
    ]);
    expect(two.events).toEqual([]);
  });
});

describe("certificates replaced while nodes talk", () => {
  const old = createAuthority("old");
  const next = createAuthority("next");

  it("leaves connections alone, and gives new ones the new authority", async () => {
    const own = [tlsCredentials(old.issue(HOST)), tlsCredentials(old.issue(HOST))] as const;
    const one = await startNode(1, { credentials: own[0] });
    const two = await startNode(2, { credentials: own[1] });
    await introduce([one, two]);
    for (const credentials of own) credentials.replace(next.issue(HOST));
    one.transport.send([vote({ from: one, to: two })]);
    await until(() => two.messages.length === 1);

    const three = await startNode(3, { credentials: tlsCredentials(next.issue(HOST)) });
    await introduce([one, two, three]);
    three.transport.send([vote({ from: three, to: one })]);
    await until(() => one.messages.length === 1);

    // Whoever still has the old one dials in vain, and is dialled in vain.
    const late = await startNode(4, { credentials: tlsCredentials(old.issue(HOST)) });
    late.know([one]);
    one.know([late]);
    await until(() => one.events.some((event) => event.kind === "lost" && event.node === late.id));
    expect(late.messages).toEqual([]);
  });

  it("replaces nothing when the new cannot be used", async () => {
    const credentials = tlsCredentials(old.issue(HOST));
    const [cert, key] = [next.issue(HOST).cert, next.issue(HOST).key];
    expect(() => credentials.replace({ ca: next.ca, cert, key })).toThrow();
    const one = await startNode(1, { credentials });
    const two = await startNode(2, { credentials: tlsCredentials(old.issue(HOST)) });
    await introduce([one, two]);
    two.transport.send([vote({ from: two, to: one })]);
    await until(() => one.messages.length === 1);
  });
});
