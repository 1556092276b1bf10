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

/** What has been seen, of all nodes and times. */
export class StateHashes {
  readonly violations: string[] = [];
  compared = 0;
  readonly #seen = new Map<string, { readonly hash: string; readonly node: string }>();
  readonly #clients = new Map<string, Client>();

  /** Asks every node about `groups`, and compares; @returns the groups whose replicas are not even. */
  async sample(
    nodes: readonly NodeAddress[],
    groups: readonly number[],
  ): Promise<{ readonly uneven: readonly number[]; readonly replicas: number }> {
    const answers = new Map<number, number[]>(groups.map((group) => [group, []]));
    const unheard = new Set<number>();
    const waiting = groups.flatMap((group) => nodes.map((node) => ({ group, node })));
    // A node that does not answer once is not waited for again and again.
    const silent = new Set<string>();
    const ask = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const { group, node } = next;
        const reply = silent.has(node.name) ? "silent" : await this.#ask(node.address, group);
        if (reply === "silent") silent.add(node.name);
        if (reply === "silent" || reply === "unreachable") unheard.add(group);
        if (typeof reply === "string") continue;
        this.#compare(group, node.name, reply);
        answers.get(group)!.push(reply.index);
      }
    };
    await Promise.all(Array.from({ length: CALLS_AT_ONCE }, ask));
    const uneven = groups.filter(
      (group) => unheard.has(group) || new Set(answers.get(group)).size > 1,
    );
    let replicas = 0;
    for (const some of answers.values()) replicas += some.length;
    return { uneven, replicas };
  }

  /**
   * Waits until all replicas of each group have applied the same; nobody may write meanwhile.
   *
   * @returns the groups that were not even in time, and how many replicas there are.
   */
  async settle(
    nodes: readonly NodeAddress[],
    timeoutMs: number,
  ): Promise<{ readonly uneven: readonly number[]; readonly replicas: number }> {
    const untilMs = performance.now() + timeoutMs;
    const first = await this.sample(nodes, ALL_GROUPS);
    let { uneven } = first;
    while (uneven.length > 0 && performance.now() < untilMs) {
      await sleep(POLL_MS);
      ({ uneven } = await this.sample(nodes, uneven));
    }
    return { uneven, replicas: first.replicas };
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
