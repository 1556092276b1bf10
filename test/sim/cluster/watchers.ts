/**
 * Followers of all change logs, one at each gateway and one that comes late, and the judgement over what
 * they saw: a revision is one change, whoever shows it and however; each acknowledged write is among them,
 * unless the follower was told that the log did not reach back; and when all is healed, each has all there is.
 *
 * Their connections have dice of their own: so seeds known from before go on to mean the same.
 */
import type { ChangeBatch, ChangeRecord } from "#proto/codec/change-messages.ts";
import { utf8Decode } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import { DEFAULT_TENANT, Space, VSHARD_COUNT, type VshardId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { vshardOf } from "#shared/vshard.ts";
import type { Agenda } from "./agenda.ts";
import type { Gateway } from "./gateway.ts";
import type { Acknowledged, History } from "./history.ts";
import type { Machine } from "./machine.ts";
import { type Listener, Network } from "./network.ts";
import type { Options } from "./options.ts";
import { violated } from "./violation.ts";
import { Watcher } from "./watcher.ts";

const BREAK_EVERY_MS = 2_000;
/** When the last follower begins, at the latest: what was there before has been trimmed, or has not. */
const LATE_MS_MAX = 25_000;
const RULE = "watchers see every change";

type Seen = { readonly watcher: Watcher; readonly revisions: readonly Set<number>[] };

export class Watchers {
  readonly #machines: readonly Machine[];
  readonly #agenda: Agenda;
  readonly #history: History;
  readonly #network: SideNetwork;
  readonly #random: SeededRandom;
  readonly #seen: readonly Seen[];
  /** Vshard and revision → what it was. */
  readonly #changes = new Map<string, string>();
  /** Times that a follower was told that the log did not reach back. */
  compactions = 0;
  /** With their values, straight from the entry. */
  fresh = 0;

  constructor(parts: {
    readonly gateways: readonly Gateway[];
    readonly machines: readonly Machine[];
    readonly agenda: Agenda;
    readonly history: History;
    readonly network: Network;
    readonly options: Options;
    readonly seed: number;
  }) {
    this.#machines = parts.machines;
    this.#agenda = parts.agenda;
    this.#history = parts.history;
    this.#random = new SeededRandom(parts.seed ^ 0x0a7c4);
    this.#network = new SideNetwork(parts.network, this.#random, parts.options);
    const { gateways } = parts;
    // One more, which comes late.
    this.#seen = [...gateways, gateways[0]!].map((gateway) => {
      const revisions = Array.from({ length: VSHARD_COUNT }, () => new Set<number>());
      const watcher = new Watcher({
        gateway,
        network: this.#network,
        random: this.#random,
        onBatch: (batch) => this.#onBatch(revisions, batch),
        onCompacted: (vshard, from, to) => {
          this.compactions++;
          for (let revision = from + 1; revision <= to; revision++)
            revisions[vshard]!.add(revision);
        },
      });
      return { watcher, revisions };
    });
  }

  get seen(): number {
    return this.#changes.size;
  }

  get moves(): number {
    return this.#seen.reduce((sum, { watcher }) => sum + watcher.moves, 0);
  }

  begin(): void {
    this.#seen.forEach(({ watcher }, i) => {
      const isLate = i === this.#seen.length - 1;
      const afterMs = isLate ? this.#random.float() * LATE_MS_MAX : 0;
      this.#agenda.after(afterMs, () => watcher.begin());
    });
    this.#breakSome();
  }

  healed(): void {
    this.#network.faults = false;
  }

  #breakSome(): void {
    this.#agenda.after(this.#random.float() * 2 * BREAK_EVERY_MS, () => {
      if (!this.#network.faults) return;
      this.#network.breakOne();
      this.#breakSome();
    });
  }

  #onBatch(revisions: readonly Set<number>[], { vshard, changes }: ChangeBatch): void {
    for (const change of changes) {
      const { revision } = change;
      if (revisions[vshard]!.has(revision)) {
        violated(RULE, `vshard ${vshard}: revision ${revision} came twice`);
      }
      revisions[vshard]!.add(revision);
      const name = `${vshard}/${revision}`;
      const text = textOf(change);
      const known = this.#changes.get(name) ?? text;
      if (known !== text) violated(RULE, `${name} was ${known}, and is ${text}`);
      this.#changes.set(name, text);
      this.#checkValue(change);
    }
  }

  /** The value of a fresh change is that of its revision. */
  #checkValue({ kind, key, revision, value }: ChangeRecord): void {
    if (value === undefined) return;
    this.fresh++;
    if (kind !== ChangeKind.Put) violated(RULE, `a change of kind ${kind} has a value`);
    this.#history.saw(utf8Decode(key), revision, utf8Decode(value.value));
  }

  /** To be asked when all is healed: who has not all there is. */
  whyBehind(): string {
    for (const machine of this.#machines) {
      for (const { group, isLeader, appliedRevision } of machine.hosted) {
        if (!isLeader || group >= VSHARD_COUNT) continue;
        for (const { watcher } of this.#seen) {
          const position = watcher.positionOf(group as number as VshardId);
          if (position === appliedRevision) continue;
          return `vshard ${group} is at ${appliedRevision}, a follower at ${position}`;
        }
      }
    }
    return "";
  }

  /** At the end. @throws Violation */
  check(): void {
    for (const one of this.#history.acknowledgedWrites) {
      const vshard = vshardOf(addressOf(one));
      for (const { revisions } of this.#seen) {
        if (revisions[vshard]!.has(one.revision)) continue;
        violated(RULE, `${one.key} of revision ${one.revision} was acknowledged and not seen`);
      }
      const text = this.#changes.get(`${vshard}/${one.revision}`);
      if (text === undefined || text.startsWith(`${one.key} `)) continue;
      violated(RULE, `${one.key} of revision ${one.revision} was seen as ${text}`);
    }
  }
}

const addressOf = ({ key }: Acknowledged) => ({
  ...{ tenant: DEFAULT_TENANT, space: Space.Kv, key: Buffer.from(key) },
});

function textOf(change: ChangeRecord): string {
  const { kind, previousRevision, valueSizeBytes, expiresAtMs, timeMs } = change;
  const numbers = [kind, previousRevision, valueSizeBytes, expiresAtMs, timeMs].join(" ");
  return `${utf8Decode(change.key)} ${numbers}`;
}

/** The same links between the same machines. */
class SideNetwork extends Network {
  readonly #main: Network;

  constructor(main: Network, random: SeededRandom, { network }: Options) {
    super(main.agenda, random, network);
    this.#main = main;
  }

  override isCut(from: string, to: string): boolean {
    return this.#main.isCut(from, to);
  }

  override listenerAt(address: string): Listener | undefined {
    return this.#main.listenerAt(address);
  }
}
