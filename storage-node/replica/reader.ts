/**
 * Serves point reads from the engine: those that a ReadIndex round has confirmed, and stale ones. Steps
 * of scans go on to `scanner.ts`.
 *
 * Reads that become servable together are fetched in one engine call, or in few when they are many.
 *
 * Expiry is part of linearizability: once a read has found a key expired, no later read may return
 * it, not even from a new leader whose clock is behind. So an expired row that is still there is not
 * simply hidden: the leader proposes its expiry and answers "not found" after that was applied.
 * This happens once per expired key at most, since the sweep removes them too.
 */

import { failureOf } from "#proto/codec/failure.ts";
import type { Get, GetResult, Read, Reply } from "#proto/codec/messages.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { Revision } from "#shared/ids.ts";
import { READS_PER_FETCH_MAX } from "#shared/limits.ts";
import { isPromise } from "#shared/maybe-promise.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { dataRowKey } from "#storage-node/engine/layout.ts";
import { type DataRow, decodeDataRow, isExpired } from "#storage-node/machine/data-row.ts";
import type { Machine } from "#storage-node/machine/machine.ts";
import type { Replica } from "./replica.ts";
import type { Scanner } from "./scanner.ts";
import type { PendingRead } from "./waiting.ts";

type PendingGet = PendingRead & { readonly read: Get };

const isGet = (pending: PendingRead): pending is PendingGet => pending.read.kind === "get";

const NOT_FOUND: GetResult = {
  kind: "get",
  found: false,
  revision: 0 as Revision,
  value: EMPTY_BYTES,
  contentType: "",
  expiresAtMs: 0,
  modifiedAtMs: 0,
  valueSizeBytes: 0,
  encoding: 0,
};

export type ReaderOptions = {
  readonly engine: Engine;
  readonly clock: Clock;
  readonly scanner: Scanner;
  /** Proposes the expiry of one key; `done` runs with undefined once applied, or a failure. */
  readonly expire: (replica: Replica, get: Get, done: Reply) => void;
};

export class Reader {
  readonly #options: ReaderOptions;
  #servable: PendingRead[] = [];

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  /** Serves all reads of `replica` that its applied index allows. */
  serve(replica: Replica): void {
    const reads = this.#servable;
    replica.takeServableReads(reads);
    if (reads.length === 0) return;
    if (reads.length === 1) {
      const only = reads[0]!;
      reads.length = 0;
      this.serveOne(replica, only.read, only.reply);
      return;
    }
    this.#servable = [];
    const gets = reads.every(isGet) ? reads : this.#passScansOn(replica, reads);
    for (let from = 0; from < gets.length; from += READS_PER_FETCH_MAX) {
      const whole = gets.length <= READS_PER_FETCH_MAX;
      this.#serveGets(replica, whole ? gets : gets.slice(from, from + READS_PER_FETCH_MAX));
    }
  }

  /** Returns the others. */
  #passScansOn(replica: Replica, reads: readonly PendingRead[]): readonly PendingGet[] {
    const gets: PendingGet[] = [];
    for (const pending of reads) {
      if (isGet(pending)) gets.push(pending);
      else this.serveOne(replica, pending.read, pending.reply);
    }
    return gets;
  }

  #serveGets(replica: Replica, gets: readonly PendingGet[]): void {
    const { machine } = replica;
    const fail = (error: unknown): void => {
      for (const { reply } of gets) this.#failed(reply, error);
    };
    const answer = (rows: readonly (Uint8Array | undefined)[]): void => {
      for (let i = 0; i < gets.length; i++) {
        this.#answer(replica, machine, gets[i]!, rows[i]);
      }
    };
    try {
      const rows = this.#options.engine.getMany(
        gets.map(({ read }) => dataRowKey(replica.group, read)),
      );
      if (isPromise(rows)) rows.then(answer, fail);
      else answer(rows);
    } catch (error) {
      fail(error);
    }
  }

  /** Reads the local row now. The caller has made sure that the replica is fresh enough. */
  serveOne(replica: Replica, read: Read, reply: Reply): void {
    if (read.kind === "scan") {
      this.#options.scanner.serve(replica, read, reply);
      return;
    }
    const { machine } = replica;
    try {
      const row = this.#options.engine.get(dataRowKey(replica.group, read));
      if (!isPromise(row)) {
        this.#answer(replica, machine, { read, reply }, row);
        return;
      }
      row.then(
        (found) => this.#answer(replica, machine, { read, reply }, found),
        (error: unknown) => this.#failed(reply, error),
      );
    } catch (error) {
      this.#failed(reply, error);
    }
  }

  /** `machine`: that of the replica when the row was asked for. */
  #answer(
    replica: Replica,
    machine: Machine,
    { read: get, reply }: PendingGet,
    bytes: Uint8Array | undefined,
  ): void {
    // Meanwhile a snapshot has begun to take the place of the rows, or they have begun to go with their
    // replica: what was found, or not, may be of no state that ever was.
    if (replica.isGone || replica.installing || replica.machine !== machine) {
      this.#refuse(reply);
      return;
    }
    if (bytes === undefined) {
      reply(NOT_FOUND);
      return;
    }
    let row: DataRow;
    try {
      row = decodeDataRow(bytes);
    } catch (error) {
      this.#failed(reply, error);
      return;
    }
    const logTimeMs = replica.logTimeMs(this.#options.clock.nowMs());
    if (isExpired(row, logTimeMs)) {
      // The clock may step back before the expiry is stamped; what was seen as past stays past.
      replica.advanceLogTime(logTimeMs);
      if (get.maxStalenessMs > 0) reply(NOT_FOUND);
      else this.#expireFirst(replica, get, reply);
      return;
    }
    reply({
      kind: "get",
      found: true,
      revision: row.revision,
      value: get.metadataOnly ? EMPTY_BYTES : row.value,
      contentType: row.contentType,
      expiresAtMs: row.expiresAtMs,
      modifiedAtMs: row.modifiedAtMs,
      valueSizeBytes: row.logicalSizeBytes,
      encoding: row.encoding,
    });
  }

  #expireFirst(replica: Replica, get: Get, reply: Reply): void {
    this.#options.expire(replica, get, (outcome) => {
      reply(outcome.kind === "failure" ? outcome : NOT_FOUND);
    });
  }

  #refuse(reply: Reply): void {
    const detail = "the replica is leaving or taking over a snapshot";
    reply(failureOf("UNAVAILABLE", detail, { notApplied: true }));
  }

  /** One damaged row must not take the node down, nor be served: its readers get the error. */
  #failed(reply: Reply, error: unknown): void {
    const code = error instanceof KvError ? error.code : "INTERNAL";
    const detail = error instanceof Error ? error.message : String(error);
    reply(failureOf(code, `the key could not be read: ${detail}`, { notApplied: true }));
  }
}
