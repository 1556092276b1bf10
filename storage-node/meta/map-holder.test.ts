import { describe, expect, it } from "vitest";
import { type ClusterMap, fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import type { NodeId } from "#shared/ids.ts";
import { MapHolder } from "./map-holder.ts";

const first = fullyReplicatedMap("test", [
  { id: 1 as NodeId, address: "", zone: "", host: "", state: NodeState.Up, capacityBytes: 0 },
]);
const at = (version: number): ClusterMap => ({ ...first, version });

function setUp() {
  const writes: { map: ClusterMap; done: () => void }[] = [];
  const fatal: unknown[] = [];
  const persist = (map: ClusterMap) =>
    new Promise<void>((resolve, reject) =>
      writes.push({
        map,
        done: () => (map.version === 13 ? reject(new Error("disk")) : resolve()),
      }),
    );
  const holder = new MapHolder(first, persist, (error) => fatal.push(error));
  const heard: number[] = [];
  const stop = holder.subscribe(({ version }) => heard.push(version));
  const written = async (): Promise<void> => {
    writes.shift()?.done();
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  };
  return { holder, writes, fatal, heard, stop, written };
}

describe("MapHolder", () => {
  it("shows a map only when it is on disk", async () => {
    const { holder, heard, written } = setUp();
    holder.offer(at(3));
    expect([holder.current.version, heard]).toEqual([0, []]);
    await written();
    expect([holder.current.version, heard]).toEqual([3, [3]]);
  });

  it("goes on with the newest of those that came while one was written", async () => {
    const { holder, heard, writes, written } = setUp();
    for (const version of [3, 5, 4, 7, 6]) holder.offer(at(version));
    await written();
    expect(writes.map(({ map }) => map.version)).toEqual([7]);
    await written();
    expect([holder.current.version, heard]).toEqual([7, [3, 7]]);
  });

  it("never goes back", async () => {
    const { holder, heard, writes, written } = setUp();
    holder.offer(at(5));
    await written();
    for (const version of [5, 4, 0]) holder.offer(at(version));
    expect(writes).toEqual([]);
    expect(heard).toEqual([5]);
  });

  it("ends the node when a map cannot be written", async () => {
    const { holder, fatal, written } = setUp();
    holder.offer(at(13));
    await written();
    expect(fatal).toHaveLength(1);
    expect(holder.current.version).toBe(0);
  });

  it("tells nobody any more, and waits for the write that runs, when it is closed", async () => {
    const { holder, heard, writes, stop, written } = setUp();
    holder.offer(at(3));
    holder.offer(at(4));
    let closed = false;
    void holder.close().then(() => {
      closed = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(closed).toBe(false);
    await written();
    expect(closed).toBe(true);
    holder.offer(at(9));
    expect(writes).toEqual([]);
    expect(heard).toEqual([]);
    stop();
  });
});
