/**
 * The judgement at the end of a run: what clients were told, against the journal that all replicas
 * agree on. The journal gives the order of all changes, so nothing has to be searched for: every
 * answer has its place in it, and the places must agree with time.
 */
import type { WriteResult } from "#proto/codec/messages.ts";
import { MutationStatus } from "#proto/codec/messages.ts";
import { assert } from "#shared/assert.ts";
import { latin1, utf8Decode } from "#shared/bytes.ts";
import { type Change, ChangeKind } from "#shared/change.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { isPromise } from "#shared/maybe-promise.ts";
import type { Engine, Row } from "#storage-node/engine/engine.ts";
import {
  dataRowAddress,
  journalRowPosition,
  RowKind,
  rowsOf,
} from "#storage-node/engine/layout.ts";
import { decodeCountersRow } from "#storage-node/machine/counters.ts";
import { decodeDataRow } from "#storage-node/machine/data-row.ts";
import { decodeJournalRow } from "#storage-node/machine/journal.ts";
import { type Key, type Request, wasRefused } from "./clients.ts";
import { GROUP } from "./node.ts";
import { violated } from "./violation.ts";

/** One state of a key; the first one of every key is "absent, at revision 0". */
type Version = { readonly revision: number; readonly value: string | undefined; begunStep: number };

type Journal = {
  readonly changes: readonly Change[];
  readonly results: ReadonlyMap<string, WriteResult>;
};

/** @throws Violation */
export function checkHistory(
  engine: Engine,
  requests: readonly Request[],
  keys: readonly Key[],
): void {
  const journal = readJournal(engine);
  const writers = new Map<number, Request>();
  for (const request of requests) {
    if (request.action !== undefined) checkRequest(request, journal, writers);
  }
  const versions = new Map<string, Version[]>();
  for (const { name } of keys)
    versions.set(name, [{ revision: 0, value: undefined, begunStep: 0 }]);
  for (const change of journal.changes) {
    versions.get(utf8Decode(change.key))!.push(versionOf(change, writers));
  }
  checkRows(engine, versions);
  for (const key of keys) {
    const own = requests.filter((request) => request.key === key);
    checkOrder(key, own, versions.get(key.name)!, journal);
  }
}

function rows(engine: Engine, kind: RowKind): readonly Row[] {
  const all: Row[] = [];
  const iterator = engine.iterate(rowsOf(kind, GROUP));
  for (;;) {
    const some = iterator.next(1000);
    assert(!isPromise(some), "the engine in memory answers at once");
    if (some.length === 0) return all;
    all.push(...some);
  }
}

function readJournal(engine: Engine): Journal {
  const changes: Change[] = [];
  const results = new Map<string, WriteResult>();
  for (const { key, value } of rows(engine, RowKind.Journal)) {
    const row = decodeJournalRow(key, value);
    for (const change of row.changes) {
      if (change.revision !== changes.length + 1) {
        violated("state fits its journal", `change ${change.revision} follows ${changes.length}`);
      }
      changes.push(change);
    }
    if (row.changes.length > 0 && journalRowPosition(key).revision !== changes.length) {
      violated("state fits its journal", "a journal row's revision is not that of its last change");
    }
    for (const { requestId, result } of row.results) {
      const name = latin1(requestId);
      const first = results.get(name);
      if (first !== undefined) {
        violated("one effect per request", `${show(first)}, and again ${show(result)}`);
      }
      results.set(name, result);
    }
  }
  return { changes, results };
}

function checkRequest(request: Request, journal: Journal, writers: Map<number, Request>): void {
  const recorded = journal.results.get(latin1(request.id));
  for (const answer of request.results) {
    // What changed nothing leaves the journal once its deadline has passed.
    const expected = recorded ?? (hasEffect(answer) ? undefined : answer);
    if (expected === undefined) {
      violated("acknowledged is there", `${request.key.name}: ${show(answer)} is in no journal`);
    }
    if (show(expected) !== show(answer)) {
      violated(
        "acknowledged is there",
        `${request.key.name}: answered ${show(answer)}, recorded ${show(expected)}`,
      );
    }
  }
  if (recorded === undefined) return;
  if (wasRefused(request)) {
    violated("not applied is true", `${request.key.name}: refused, but ${show(recorded)}`);
  }
  if (hasEffect(recorded)) writers.set(recorded.mutations[0]!.revision, request);
}

const hasEffect = ({ applied, mutations }: WriteResult): boolean =>
  applied && mutations[0]!.status === MutationStatus.Applied;

const show = (result: WriteResult): string => JSON.stringify(result);

function versionOf(change: Change, writers: ReadonlyMap<number, Request>): Version {
  const { revision, kind } = change;
  if (kind === ChangeKind.Expire) return { revision, value: undefined, begunStep: 0 };
  const request = writers.get(revision);
  const asked = request?.action?.kind === (kind === ChangeKind.Put ? "put" : "delete");
  if (request === undefined || !asked || request.key.name !== utf8Decode(change.key)) {
    violated("state fits its journal", `nobody asked for the change at revision ${revision}`);
  }
  return { revision, value: request.value, begunStep: request.begunStep };
}

/** Data rows and counters are what the changes add up to. */
function checkRows(engine: Engine, versions: ReadonlyMap<string, readonly Version[]>): void {
  let bytes = 0;
  const present = new Set<string>();
  for (const { key, value } of rows(engine, RowKind.Data)) {
    const name = utf8Decode(dataRowAddress(key).key);
    const row = decodeDataRow(value);
    const last = versions.get(name)?.at(-1);
    if (last?.value !== utf8Decode(row.value) || last.revision !== row.revision) {
      violated(
        "state fits its journal",
        `${name} has revision ${row.revision}, its last change is ${last?.revision}`,
      );
    }
    present.add(name);
    bytes += name.length + row.value.length;
  }
  for (const [name, all] of versions) {
    const { value, revision } = all.at(-1)!;
    if (value !== undefined && !present.has(name)) {
      violated("acknowledged is there", `${name} is missing, its last change is ${revision}`);
    }
  }
  const counters = rows(engine, RowKind.Counters).map(({ value }) => decodeCountersRow(value));
  const objects = counters[0]?.objects ?? 0;
  if (objects !== present.size || (counters[0]?.bytes ?? 0) !== bytes) {
    const what = `${objects} objects of tenant ${DEFAULT_TENANT} are counted`;
    violated("state fits its journal", `${what}, and there are ${present.size}`);
  }
}

/** An operation's place: the revision that its key had when it took effect. */
type Operation = {
  readonly request: Request;
  readonly isWrite: boolean;
  /** Undefined: the key was absent, and where that was is to be found. */
  readonly place: number | undefined;
  leastPlace: number;
};

function operationOf(request: Request, journal: Journal): Operation | undefined {
  const result = request.results[0] ?? journal.results.get(latin1(request.id));
  const found = result === undefined ? request.found : result.mutations[0]!;
  if (found === undefined) return undefined;
  const isWrite = result !== undefined && hasEffect(result);
  const place = found.revision === 0 ? undefined : found.revision;
  return { request, isWrite, place, leastPlace: 0 };
}

/** Every operation took effect between its beginning and its end, in the order of the journal. */
function checkOrder(
  key: Key,
  requests: readonly Request[],
  versions: readonly Version[],
  journal: Journal,
): void {
  const operations = requests
    .map((request) => operationOf(request, journal))
    .filter((operation) => operation !== undefined);
  const moments = operations.flatMap((operation) => [
    { step: operation.request.begunStep, begins: true, operation },
    { step: operation.request.endedStep, begins: false, operation },
  ]);
  // What ends and begins in one step may have happened in either order.
  moments.sort((a, b) => a.step - b.step || Number(b.begins) - Number(a.begins));
  let reached = 0;
  for (const { begins, operation } of moments) {
    if (begins) operation.leastPlace = reached;
    else reached = Math.max(reached, placeOf(key, operation, versions));
  }
}

function placeOf(key: Key, operation: Operation, versions: readonly Version[]): number {
  const { request, isWrite, leastPlace } = operation;
  const place = operation.place ?? absentFrom(versions, leastPlace, key);
  if (place === undefined) {
    violated("linearizable", `${key.name} was found absent, but was there from ${leastPlace} on`);
  }
  if (place < leastPlace || (isWrite && place === leastPlace)) {
    const what = isWrite ? "a write took" : "a read found";
    violated("linearizable", `${key.name}: ${what} revision ${place} after ${leastPlace} was seen`);
  }
  const version = versions.find(({ revision }) => revision === place);
  if (version === undefined) {
    violated("linearizable", `${key.name}: revision ${place} was seen, but is in no journal`);
  }
  if (version.begunStep > request.endedStep) {
    violated("linearizable", `${key.name}: revision ${place} was seen before it was asked for`);
  }
  const { found } = request;
  if (found !== undefined && found.revision > 0 && found.value !== version.value) {
    violated("linearizable", `${key.name}: revision ${place} was read with another value`);
  }
  return place;
}

/** The first place from `least` on at which the key is absent. */
function absentFrom(versions: readonly Version[], least: number, key: Key): number | undefined {
  // Between its expiry and the change that says so, the key is absent to whoever looks.
  if (key.expires) return least;
  const now = versions.findLast(({ revision }) => revision <= least);
  if (now?.value === undefined) return least;
  return versions.find(({ revision, value }) => revision > least && value === undefined)?.revision;
}
