/**
 * Replicas of a group are the same at the same applied index: their hashes are asked of every node, past
 * the network's rules, and compared wherever two are of one index.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { type Client, credentials, status } from "@grpc/grpc-js";
import { GetStateHashRequestSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import { META_GROUP, VSHARD_COUNT } from "#shared/ids.ts";
import { grpcClient } from "#shared/runtime/grpc.ts";
import { CLUSTER_DEFINITION } from "#storage-node/rpc/cluster-definition.ts";

const CALL_TIMEOUT_MS = 5_000;
const POLL_MS = 200;
const CALLS_AT_ONCE = 16;

export type NodeAddress = { readonly name: string; readonly address: string };

export const ALL_GROUPS: readonly number[] = [...Array(VSHARD_COUNT).keys(), META_GROUP];

type Answer = { readonly index: number; readonly hash: string };

/** A replica's state; `none` when the node has no replica of the group; else why there is no answer. */
type Reply = Answer | "none" | "unreachable" | "silent";

/** Groups whose replicas are not, or not known to be, at one index: what each node said. */
export type Unevenness = ReadonlyMap<number, string>;

function isEven(replies: readonly Reply[]): boolean {
  if (replies.includes("silent") || replies.includes("unreachable")) return false;
  const indexes = replies.flatMap((reply) => (typeof reply === "string" ? [] : [reply.index]));
  return new Set(indexes).size === 1;
}

function describe(byNode: ReadonlyMap<string, Reply>): string {
  const parts = [...byNode].map(
    ([node, reply]) => `${node} ${typeof reply === "string" ? reply : reply.index}`,
  );
  return parts.join(", ");
}

/** What has been seen, of all nodes and times. */
export class StateHashes {
  readonly violations: string[] = [];
  compared = 0;
  readonly #seen = new Map<string, { readonly hash: string; readonly node: string }>();
  readonly #clients = new Map<string, Client>();

  /** Asks every node about `groups`, and compares. */
  async sample(nodes: readonly NodeAddress[], groups: readonly number[]): Promise<Unevenness> {
    const replies = new Map<number, Map<string, Reply>>(groups.map((group) => [group, new Map()]));
    const waiting = groups.flatMap((group) => nodes.map((node) => ({ group, node })));
    // A node that does not answer once is not waited for again and again.
    const silent = new Set<string>();
    const ask = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const { group, node } = next;
        const reply = silent.has(node.name) ? "silent" : await this.#ask(node.address, group);
        if (reply === "silent") silent.add(node.name);
        replies.get(group)!.set(node.name, reply);
        if (typeof reply !== "string") this.#compare(group, node.name, reply);
      }
    };
    await Promise.all(Array.from({ length: CALLS_AT_ONCE }, ask));
    const uneven = new Map<number, string>();
    for (const [group, byNode] of replies) {
      if (!isEven([...byNode.values()])) uneven.set(group, describe(byNode));
    }
    return uneven;
  }

  /**
   * Waits until all replicas of each group have applied the same; nobody may write meanwhile.
   *
   * @param nodes asked anew each time: members may change meanwhile.
   */
  async settle(nodes: () => readonly NodeAddress[], timeoutMs: number): Promise<Unevenness> {
    const untilMs = performance.now() + timeoutMs;
    let uneven = await this.sample(nodes(), ALL_GROUPS);
    while (uneven.size > 0 && performance.now() < untilMs) {
      await sleep(POLL_MS);
      uneven = await this.sample(nodes(), [...uneven.keys()]);
    }
    return uneven;
  }

  /** What was seen of old indexes will not be met again. */
  forget(): void {
    this.#seen.clear();
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  #compare(group: number, node: string, { index, hash }: Answer): void {
    const place = `${group}@${index}`;
    const before = this.#seen.get(place);
    if (before === undefined) {
      this.#seen.set(place, { hash, node });
      return;
    }
    if (before.node !== node) this.compared++;
    if (before.hash === hash) return;
    this.violations.push(
      `group ${group} at index ${index}: ${before.node} has ${before.hash}, ${node} has ${hash}`,
    );
  }

  #ask(address: string, group: number): Promise<Reply> {
    const { path, requestSerialize, responseDeserialize } = CLUSTER_DEFINITION.getStateHash;
    let client = this.#clients.get(address);
    if (client === undefined) {
      client = grpcClient(address, credentials.createInsecure());
      this.#clients.set(address, client);
    }
    return new Promise((resolve) => {
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        create(GetStateHashRequestSchema, { group }),
        { deadline: Date.now() + CALL_TIMEOUT_MS },
        (error, response) => {
          if (error?.code === status.DEADLINE_EXCEEDED) resolve("silent");
          else if (error !== null || response === undefined) resolve("unreachable");
          else if (response.failure !== undefined) resolve("none");
          else {
            const hash = Buffer.from(response.hash).toString("hex");
            resolve({ index: Number(response.appliedIndex), hash });
          }
        },
      );
    });
  }
}
