/** Transports over real gRPC on 127.0.0.1: delivery, frames, connections that come and go. */
import { afterEach, describe, expect, it } from "vitest";
import type { NodeId, ReplicaId } from "#shared/ids.ts";
import { LANE_FRAME_BYTES_SOFT_MAX, LANE_QUEUED_BYTES_MAX } from "#shared/limits.ts";
import type { Message } from "#storage-node/raft/types.ts";
import {
  append,
  cleanUp,
  heartbeat,
  introduce,
  startNode,
  startNodes,
  startProxy,
  type TestNode,
  until,
  vote,
} from "./testing/nodes.ts";

afterEach(cleanUp);

const statisticsOf = (node: TestNode, peer: TestNode) => node.transport.statistics().get(peer.id)!;
const kinds = (node: TestNode) => node.events.map(({ kind }) => kind);

describe("GrpcTransport", () => {
  it("carries messages of both lanes in both directions between three nodes", async () => {
    const nodes = await startNodes(3);
    const expected = new Map(nodes.map((node) => [node, [] as Message[]]));
    for (const from of nodes) {
      for (const to of nodes.filter((node) => node !== from)) {
        const pair = { from, to };
        const messages = [vote(pair), heartbeat(pair), append(pair, new Uint8Array(300))];
        from.transport.send(messages);
        expected.get(to)!.push(...messages);
      }
    }
    await until(() => nodes.every((node) => node.messages.length === 6));
    for (const [node, messages] of expected) {
      expect(node.messages).toHaveLength(messages.length);
      expect(node.messages).toEqual(expect.arrayContaining(messages));
    }
  });

  it.each([
    { what: "little that one turn has to say as one frame", dataBytes: 100, frames: 1 },
    { what: "much that one turn has to say as one frame per lane", dataBytes: 1000, frames: 2 },
  ])("sends $what", async ({ dataBytes, frames }) => {
    const [one, two] = await startNodes(2);
    const pair = { from: one!, to: two! };
    for (let group = 0; group < 256; group++) {
      one!.transport.send([heartbeat(pair, group), vote(pair, group)]);
      one!.transport.send([append(pair, new Uint8Array(dataBytes), group)]);
    }
    await until(() => two!.messages.length === 3 * 256);
    expect(statisticsOf(one!, two!)).toMatchObject({ framesSent: frames, messagesSent: 3 * 256 });
    const received = statisticsOf(two!, one!);
    expect(received).toMatchObject({ framesReceived: frames, messagesReceived: 3 * 256 });
    expect(received.bytesReceived).toBe(statisticsOf(one!, two!).bytesSent);
  });

  it("keeps the order of a lane, and cuts what is large into several frames", async () => {
    const [one, two] = await startNodes(2);
    const pair = { from: one!, to: two! };
    const data = new Uint8Array(200_000);
    const messages = Array.from({ length: 40 }, (_, group) => append(pair, data, group));
    one!.transport.send(messages);
    await until(() => two!.messages.length === messages.length);
    expect(two!.messages.map(({ group }) => group)).toEqual(messages.map(({ group }) => group));
    const { framesSent, bytesSent } = statisticsOf(one!, two!);
    expect(framesSent).toBeGreaterThanOrEqual(Math.floor(bytesSent / LANE_FRAME_BYTES_SOFT_MAX));
    expect(framesSent).toBeLessThan(messages.length);
  });

  it("keeps an append without entries behind those with entries", async () => {
    const [one, two] = await startNodes(2);
    const pair = { from: one!, to: two! };
    const large = append(pair, new Uint8Array(1_000_000), 1);
    const commit = append(pair, new Uint8Array(0), 1, 0);
    one!.transport.send([large, commit]);
    await until(() => two!.messages.length === 2);
    expect(two!.messages).toEqual([large, commit]);
  });

  it("drops messages of and for replicas of other nodes, and counts them", async () => {
    const [one, two] = await startNodes(2);
    const good = vote({ from: one!, to: two! });
    one!.transport.send([{ ...good, from: 7 as ReplicaId }, { ...good, to: 9 as ReplicaId }, good]);
    await until(() => two!.messages.length === 1);
    expect(two!.messages).toEqual([good]);
    expect(one!.transport.messagesUnroutable).toBe(2);
  });

  it("delivers what was sent shortly before there was a connection", async () => {
    const one = await startNode(1);
    const two = await startNode(2);
    two.know([one]);
    const early = [vote({ from: two, to: one }), append({ from: two, to: one }, new Uint8Array(9))];
    two.transport.send(early);
    one.know([two]);
    await until(() => one.messages.length === 2);
    expect(one.messages).toEqual(expect.arrayContaining(early));
  });

  it("connects again when the peer's process comes back on the same port", async () => {
    const [one, two] = await startNodes(2);
    const { address } = two!;
    await two!.kill();
    await until(() => !one!.connectedTo(two!));
    expect(one!.unreachable).toEqual([2]);
    // Attempts fail meanwhile; nobody is told of each.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(kinds(one!)).toEqual(["connected", "lost"]);
    expect(one!.unreachable).toEqual([2]);

    const again = await startNode(2, { listen: address });
    again.know([one!]);
    await until(() => one!.connectedTo(again) && again.connectedTo(one!));
    const pair = { from: again, to: one! };
    again.transport.send([vote(pair)]);
    await until(() => one!.messages.length === 1);
    expect(kinds(one!)).toEqual(["connected", "lost", "connected"]);
  });

  it("tells both sides once of a connection that breaks, and makes a new one", async () => {
    const one = await startNode(1);
    const two = await startNode(2);
    const proxy = await startProxy(two.address);
    one.know([two, proxy.address]);
    two.know([one]);
    await until(() => one.connectedTo(two) && two.connectedTo(one));
    proxy.cut();
    await until(() => [one, two].every((node) => node.events.length === 3));
    for (const node of [one, two]) expect(kinds(node)).toEqual(["connected", "lost", "connected"]);
    expect(one.unreachable).toEqual([2]);
    expect(two.unreachable).toEqual([1]);
    expect(statisticsOf(one, two).connects).toBe(2);
  });

  it("notices on both sides that a peer has gone silent", async () => {
    const one = await startNode(1);
    const two = await startNode(2);
    const proxy = await startProxy(two.address);
    one.know([two, proxy.address]);
    two.know([one]);
    await until(() => one.connectedTo(two) && two.connectedTo(one));
    proxy.stall();
    await until(() => !one.connectedTo(two) && !two.connectedTo(one));
    expect(one.unreachable).toEqual([2]);
    expect(two.unreachable).toEqual([1]);
    proxy.cut();
    proxy.resume();
    await until(() => one.connectedTo(two) && two.connectedTo(one));
  });

  it("takes the newest stream of a peer whose older one it still believes in", async () => {
    const two = await startNode(2);
    const proxy = await startProxy(two.address);
    const before = await startNode(1);
    two.know([before]);
    before.know([two, proxy.address]);
    await until(() => two.connectedTo(before));
    // The process ends, and no word of it comes through.
    proxy.stall();
    await before.kill();
    const after = await startNode(1);
    after.know([two]);
    await until(() => after.connectedTo(two));
    await until(() => kinds(two).join() === "connected,lost,connected");
    two.transport.send([vote({ from: two, to: after })]);
    await until(() => after.messages.length === 1);
  });

  it("tells of a peer that cannot be reached, once", async () => {
    const one = await startNode(1);
    const gone = await startNode(2);
    const { address } = gone;
    await gone.kill();
    one.know([gone, address]);
    await until(() => one.events.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(one.events).toEqual([
      { kind: "lost", node: 2, reason: `connect ECONNREFUSED ${address}` },
    ]);
    expect(one.unreachable).toEqual([2]);
    const two = await startNode(2, { listen: address });
    await until(() => one.connectedTo(two));
  });

  it("follows a peer to another address", async () => {
    const one = await startNode(1);
    const two = await startNode(2);
    const proxy = await startProxy(two.address);
    one.know([two, proxy.address]);
    two.know([one]);
    await until(() => one.connectedTo(two));
    one.know([two]);
    await until(() => kinds(one).join() === "connected,lost,connected");
    expect(one.unreachable).toEqual([2]);
    proxy.cut();
    two.transport.send([vote({ from: two, to: one })]);
    await until(() => one.messages.length === 1);
    expect(proxy.connections()).toBe(1);
  });

  it("follows a peer that it could not reach to another address", async () => {
    const one = await startNode(1);
    const two = await startNode(2);
    one.know([two, "127.0.0.1:1"]);
    await until(() => one.events.length === 1);
    one.know([two]);
    await until(() => one.connectedTo(two));
  });

  it("bears addresses that are none", async () => {
    const one = await startNode(1);
    const two = await startNode(2);
    one.know([two, ""]);
    expect(one.transport.openSnapshotStream(two.id)).toBeUndefined();
    one.know([two, "no address"]);
    await until(() => one.events.length === 1);
    one.know([two]);
    await until(() => one.connectedTo(two));
  });

  it("keeps its connections when it is told the same peers again", async () => {
    const nodes = await startNodes(3);
    await introduce(nodes);
    for (const node of nodes) expect(kinds(node)).toEqual(["connected", "connected"]);
  });

  it("takes in a peer that it does not know yet", async () => {
    const one = await startNode(1);
    const two = await startNode(2);
    one.know([two]);
    await until(() => one.connectedTo(two) && two.connectedTo(one));
    one.transport.send([vote({ from: one, to: two })]);
    two.transport.send([vote({ from: two, to: one })]);
    await until(() => one.messages.length === 1 && two.messages.length === 1);
    two.know([one]);
    expect(two.connectedTo(one)).toBe(true);
    // And forgets it when it is gone before it became known.
    const three = await startNode(3);
    one.know([two], [three]);
    await until(() => three.connectedTo(one));
    one.know([two]);
    await until(() => three.transport.statistics().size === 0);
  });

  it("ends the link with a peer that is removed, and refuses it from then on", async () => {
    const [one, two] = await startNodes(2);
    two!.know();
    await until(() => one!.events.at(-1)?.kind === "refused");
    expect(two!.events.slice(1)).toEqual([
      { kind: "lost", node: 1, reason: expect.stringContaining("no longer a member") },
      { kind: "refused", node: 1, reason: "node 1 was removed from the cluster" },
    ]);
    two!.transport.send([vote({ from: two!, to: one! })]);
    expect(two!.transport.messagesUnroutable).toBe(1);
    two!.know([one!]);
    await until(() => one!.connectedTo(two!));

    one!.know();
    await until(() => !two!.connectedTo(one!));
    expect(one!.connectedTo(two!)).toBe(false);
  });

  it("drops what does not fit while a peer does not read, tells of it, and recovers", async () => {
    const one = await startNode(1);
    const two = await startNode(2);
    const proxy = await startProxy(two.address);
    one.know([two, proxy.address]);
    two.know([one]);
    await until(() => one.connectedTo(two) && two.connectedTo(one));
    proxy.stall();
    const data = new Uint8Array(1024 * 1024);
    const pair = { from: one, to: two };
    const count = 2 * (LANE_QUEUED_BYTES_MAX / data.length);
    for (let i = 0; i < count; i++) one.transport.send([append(pair, data, i)]);
    const full = { ...statisticsOf(one, two) };
    expect(full.queuedBytes).toBeLessThanOrEqual(LANE_QUEUED_BYTES_MAX);
    expect(full.messagesDropped).toBeGreaterThanOrEqual(count / 2);
    await until(() => one.unreachable.length > 0);
    expect(one.unreachable).toEqual([2]);
    // The other lane has room of its own.
    one.transport.send([vote(pair)]);
    expect(statisticsOf(one, two).messagesDropped).toBe(full.messagesDropped);
    proxy.resume();
    await until(() => {
      one.transport.send([heartbeat(pair)]);
      return two.messages.some(({ kind }) => kind === "heartbeat");
    });
    await until(() => statisticsOf(one, two).queuedBytes === 0);
  });

  it("answers peers that they should come back while it is in no cluster yet", async () => {
    const one = await startNode(1);
    const two = await startNode(2, { detached: true });
    one.know([two]);
    await until(() => one.events.length === 1);
    expect(one.events[0]).toMatchObject({ kind: "lost", node: 2 });
    two.attach();
    await until(() => one.connectedTo(two));
  });

  it("is silent after close", async () => {
    const [one, two] = await startNodes(2);
    one!.transport.close();
    two!.transport.send([vote({ from: two!, to: one! })]);
    one!.transport.send([vote({ from: one!, to: two! })]);
    one!.know([two!]);
    expect(one!.transport.openSnapshotStream(2 as NodeId)).toBeUndefined();
    await until(() => !two!.connectedTo(one!));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(one!.messages).toEqual([]);
    expect(two!.messages).toEqual([]);
    expect(kinds(one!)).toEqual(["connected"]);
    expect(one!.unreachable).toEqual([]);
  });
});
