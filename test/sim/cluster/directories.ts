/**
 * The directory through simulated gateways: all of them change the same rows and watch them, and what they
 * are told has to add up.
 *
 * - A row that counts, raised by compare and set: what it says in the end is what was answered with "done",
 *   and at most what was answered with "unknown" besides.
 * - Two rows that are changed together: nobody ever sees one without the other.
 * - A row that comes and goes: who has missed that it went hears of it later.
 * - Nobody's rows go back, and in the end all have the same.
 */
import type { DirectoryFollower } from "#gateway/directory/directory-follower.ts";
import { utf8, utf8Decode } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { SeededRandom } from "#shared/random.ts";
import type { Agenda } from "./agenda.ts";
import type { Gateway } from "./gateway.ts";
import type { Party } from "./party.ts";
import { violated } from "./violation.ts";

const COUNT = "count";
const PAIR = ["pair/a", "pair/b"] as const;
const FLAG = "flag";
const THINK_MS_MAX = 1_500;
const DEADLINE_MS_MIN = 500;
const DEADLINE_MS_MAX = 8_000;

type Player = {
  readonly party: Party;
  readonly directory: DirectoryFollower;
  revision: number;
  /** Of each row, the highest that was seen. */
  readonly seen: Map<string, number>;
  busy: boolean;
  /** Changes that were answered since the faults ended. */
  sinceHealed: number;
};

export class Directories {
  readonly #players: readonly Player[];
  readonly #agenda: Agenda;
  readonly #random: SeededRandom;
  readonly #onError: (error: unknown) => void;
  #over = false;
  #hasBegun = false;
  #raised = 0;
  #unknown = 0;
  /** Changes that were answered. */
  made = 0;

  constructor(parts: {
    readonly gateways: readonly Gateway[];
    readonly agenda: Agenda;
    readonly seed: number;
    readonly onError: (error: unknown) => void;
  }) {
    this.#agenda = parts.agenda;
    this.#onError = parts.onError;
    // Dice of its own.
    this.#random = new SeededRandom(parts.seed ^ 0x5eed);
    this.#players = parts.gateways.flatMap(({ party, directory }) =>
      directory === undefined
        ? []
        : [{ party, directory, revision: 0, seen: new Map(), busy: false, sinceHealed: 0 }],
    );
    for (const player of this.#players) {
      player.directory.subscribe("", (name, row) => this.#watch(player, name, row?.revision));
    }
  }

  get busy(): boolean {
    return this.#players.some(({ busy }) => busy);
  }

  begin(): void {
    this.#hasBegun = true;
    for (const player of this.#players) this.#next(player);
  }

  end(): void {
    this.#over = true;
  }

  /** To be asked when the faults are over. */
  haveAllChanged(): boolean {
    if (!this.#hasBegun) return true;
    return this.#players.every(({ sinceHealed }) => sinceHealed > 0) || this.#players.length === 0;
  }

  /** The faults end. */
  healed(): void {
    for (const player of this.#players) player.sinceHealed = 0;
  }

  areEqual(): boolean {
    const texts = new Set(this.#players.map(({ directory }) => textOf(directory)));
    return texts.size <= 1;
  }

  check(): void {
    const [player] = this.#players;
    if (player === undefined) return;
    const count = countOf(player.directory);
    if (count < this.#raised || count > this.#raised + this.#unknown) {
      const answers = `${this.#raised} times done and ${this.#unknown} times unknown`;
      violated("one directory", `it says ${count}, and answered ${answers}`);
    }
  }

  #next(player: Player): void {
    this.#agenda.after(this.#random.float() * THINK_MS_MAX, () => {
      if (this.#over) return;
      player.busy = true;
      player.party.runSurely(() => {
        this.#change(player).then(() => {
          player.busy = false;
          this.#next(player);
        }, this.#onError);
      });
    });
  }

  async #change(player: Player): Promise<void> {
    const { directory, party } = player;
    const spreadMs = DEADLINE_MS_MAX - DEADLINE_MS_MIN;
    const deadlineMs = party.clock.nowMs() + DEADLINE_MS_MIN + this.#random.float() * spreadMs;
    const kind = this.#random.below(3);
    const count = countOf(directory);
    const expectedRevision = directory.get(COUNT)?.revision ?? 0;
    const value = utf8(`${party.name} ${this.#random.below(1_000_000)}`);
    const mutations =
      kind === 0
        ? [{ name: COUNT, value: utf8(`${count + 1}`), expectedRevision }]
        : kind === 1
          ? PAIR.map((name) => ({ name, value }))
          : [{ name: FLAG, value: directory.get(FLAG) === undefined ? value : undefined }];
    try {
      const isDone = await directory.change(mutations, { deadlineMs });
      this.made++;
      player.sinceHealed++;
      if (isDone && kind === 0) this.#raised++;
      if (isDone && kind === 0 && countOf(directory) <= count) {
        violated("one directory", `${party.name} raised ${count}, and sees that it did not`);
      }
    } catch (error) {
      if (!(error instanceof KvError) || error.code === "INTERNAL") throw error;
      if (kind === 0 && error.outcome === "unknown") this.#unknown++;
    }
  }

  #watch(player: Player, name: string, revision: number | undefined): void {
    const { directory, seen, party } = player;
    if (directory.revision < player.revision) {
      violated("one directory", `${party.name} is back at ${directory.revision}`);
    }
    player.revision = directory.revision;
    if (revision !== undefined) {
      if (revision <= (seen.get(name) ?? 0)) {
        violated("one directory", `${party.name} sees ${name} of ${revision} again`);
      }
      seen.set(name, revision);
    }
    const [a, b] = PAIR.map((one) => directory.get(one)?.value.toHex());
    if (a !== b) violated("one directory", `${party.name} sees half of a change`);
  }
}

const countOf = (directory: DirectoryFollower): number => {
  const row = directory.get(COUNT);
  return row === undefined ? 0 : Number(utf8Decode(row.value));
};

const textOf = (directory: DirectoryFollower): string =>
  JSON.stringify(directory.list("").map(({ name, revision }) => [name, revision]));
