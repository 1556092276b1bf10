/**
 * The network between simulated processes. Datagrams carry Raft messages: they may be lost, repeated and
 * overtaken. Connections carry streams: whole messages in order, late, until the connection breaks. Links
 * are cut in one direction; a connection over a cut link stalls, and breaks when that lasts.
 */
import { GrpcStatus } from "#shared/errors.ts";
import type { MessageStream, StreamListener, StreamStatus } from "#shared/message-stream.ts";
import type { SeededRandom } from "#shared/random.ts";
import type { Agenda } from "./agenda.ts";
import type { NetworkOptions } from "./options.ts";
import type { Party } from "./party.ts";

/** Between attempts to open a connection. */
const CONNECT_RETRY_MS = 150;
const STALL_LOOK_MS = 40;

/** Who may be connected to at an address. */
export type Listener = {
  readonly party: Party;
  accept(stream: SimStream, purpose: string, from: Party): void;
};

export class Network {
  readonly agenda: Agenda;
  readonly #random: SeededRandom;
  readonly #options: NetworkOptions;
  readonly #listeners = new Map<string, Listener>();
  /** By direction: since when. */
  readonly #cut = new Map<string, number>();
  readonly #connections = new Set<Connection>();
  faults = true;
  /** Connections that were asked for, by the first word of their purpose. */
  readonly opened: Record<string, number> = {};

  constructor(agenda: Agenda, random: SeededRandom, options: NetworkOptions) {
    this.agenda = agenda;
    this.#random = random;
    this.#options = options;
  }

  listen(address: string, listener: Listener): void {
    this.#listeners.set(address, listener);
    listener.party.onOver.add(() => {
      if (this.#listeners.get(address) === listener) this.#listeners.delete(address);
    });
  }

  listenerAt(address: string): Listener | undefined {
    return this.#listeners.get(address);
  }

  isCut(from: string, to: string): boolean {
    return this.#cut.has(`${from}>${to}`);
  }

  cut(from: string, to: string): void {
    if (from === to || this.isCut(from, to)) return;
    this.#cut.set(`${from}>${to}`, this.agenda.nowMs);
    for (const connection of this.#connections) {
      if (connection.isOver(from, to)) this.#watchCut(connection, from, to);
    }
  }

  heal(): void {
    this.#cut.clear();
  }

  /** As keepalives would: a connection whose other end is not heard for long is given up. */
  #watchCut(connection: Connection, from: string, to: string): void {
    const since = this.#cut.get(`${from}>${to}`);
    const { keepaliveMs } = this.#options;
    this.agenda.after(keepaliveMs * (0.7 + 0.6 * this.#random.float()), () => {
      if (this.#cut.get(`${from}>${to}`) === since) connection.break("keepalive");
    });
  }

  delayMs(): number {
    const { delayMsMin, delayMsMax, spikeChance, spikeMsMax } = this.#options;
    const usual = delayMsMin + this.#random.float() * (delayMsMax - delayMsMin);
    if (!this.faults || this.#random.float() >= spikeChance) return usual;
    return usual + this.#random.float() * spikeMsMax;
  }

  /** `deliver` is called once, twice or never; `lost` when the other side could not be reached. */
  datagram(from: string, to: string, deliver: () => void, lost: () => void): void {
    const { lossChance, repeatChance } = this.#options;
    if (this.faults && this.#random.float() < lossChance) return;
    const copies = this.faults && this.#random.float() < repeatChance ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      this.agenda.after(this.delayMs(), () => {
        if (this.isCut(from, to)) lost();
        else deliver();
      });
    }
  }

  /** Where nobody listens, the stream waits until somebody does, or else ends. */
  connect(
    from: Party,
    address: string,
    { purpose, waits }: { readonly purpose: string; readonly waits: boolean },
  ): MessageStream {
    const kind = purpose.split(" ")[0]!;
    this.opened[kind] = (this.opened[kind] ?? 0) + 1;
    const connection = new Connection(this, { from, address, purpose, waits });
    this.#connections.add(connection);
    return connection.client;
  }

  forget(connection: Connection): void {
    this.#connections.delete(connection);
  }

  /** Some connection breaks, for no reason that anybody knows. */
  breakOne(): void {
    const all = [...this.#connections];
    if (all.length > 0) all[this.#random.below(all.length)]!.break("reset");
  }

  /** What the other side of a dead process hears: a reset at once, or nothing for a while. */
  endNoticeMs(): number {
    const { resetChance, keepaliveMs } = this.#options;
    return this.#random.float() < resetChance ? this.delayMs() : keepaliveMs;
  }
}

type Item = { readonly bytes: Uint8Array } | { readonly status: StreamStatus };

export class SimStream implements MessageStream {
  readonly party: Party;
  readonly peerAddress: string;
  readonly #send: (item: Item) => void;
  #listener: StreamListener | undefined;
  #early: Item[] = [];
  #closed = false;

  constructor(party: Party, peerAddress: string, send: (item: Item) => void) {
    this.party = party;
    this.peerAddress = peerAddress;
    this.#send = send;
  }

  listen(listener: StreamListener): void {
    this.#listener = listener;
    const early = this.#early;
    this.#early = [];
    for (const item of early) this.take(item);
  }

  write(bytes: Uint8Array): boolean {
    if (!this.#closed) this.#send({ bytes: bytes.slice() });
    return true;
  }

  end(): void {
    this.abort({ code: GrpcStatus.Ok, details: "" });
  }

  abort(status: StreamStatus): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#send({ status });
  }

  /** What has arrived. */
  take(item: Item): void {
    if (this.#listener === undefined) {
      this.#early.push(item);
      return;
    }
    if ("bytes" in item) {
      if (!this.#closed) this.#listener.onMessage(item.bytes);
      return;
    }
    this.#closed = true;
    this.#listener.onClosed(item.status);
  }
}

const unavailable = (details: string): Item => ({
  status: { code: GrpcStatus.Unavailable, details },
});

/** One direction of a connection. */
type Lane = {
  readonly from: string;
  readonly to: string;
  /** Not under way yet, or stalled. */
  waiting: Item[];
  lastDueMs: number;
  looking: boolean;
};

export class Connection {
  readonly client: SimStream;
  readonly #network: Network;
  readonly #address: string;
  readonly #purpose: string;
  readonly #waits: boolean;
  readonly #out: Lane;
  readonly #back: Lane;
  #server: SimStream | undefined;
  #broken = false;

  constructor(
    network: Network,
    to: {
      readonly from: Party;
      readonly address: string;
      readonly purpose: string;
      readonly waits: boolean;
    },
  ) {
    const { from, address, purpose, waits } = to;
    this.#network = network;
    this.#waits = waits;
    this.#address = address;
    this.#purpose = purpose;
    const lane = (a: string, b: string): Lane => ({
      from: a,
      to: b,
      waiting: [],
      lastDueMs: 0,
      looking: false,
    });
    this.#out = lane(from.name, address);
    this.#back = lane(address, from.name);
    this.client = new SimStream(from, address, (item) => this.#write(this.#out, item));
    from.onOver.add(this.#clientOver);
    this.#open();
  }

  isOver(from: string, to: string): boolean {
    return [this.#out, this.#back].some((lane) => lane.from === from && lane.to === to);
  }

  #open(): void {
    const network = this.#network;
    network.agenda.after(2 * network.delayMs(), () => {
      if (this.#broken || this.client.party.isOver) return;
      const listener = network.listenerAt(this.#address);
      const { from, to } = this.#out;
      if (listener === undefined || network.isCut(from, to) || network.isCut(to, from)) {
        if (this.#waits) network.agenda.after(CONNECT_RETRY_MS, () => this.#open());
        else this.break("nobody answers there");
        return;
      }
      const { party } = listener;
      const server = new SimStream(party, from, (item) => this.#write(this.#back, item));
      this.#server = server;
      party.onOver.add(this.#serverOver);
      party.run(() => listener.accept(server, this.#purpose, this.client.party));
      this.#look(this.#out);
    });
  }

  #write(lane: Lane, item: Item): void {
    if (this.#broken) return;
    lane.waiting.push(item);
    this.#look(lane);
  }

  /** Sends what waits, as soon as there is a way. */
  #look(lane: Lane): void {
    const { agenda } = this.#network;
    if (this.#server === undefined || this.#broken || lane.looking) return;
    lane.looking = true;
    const dueMs = Math.max(lane.lastDueMs, agenda.nowMs + this.#network.delayMs());
    lane.lastDueMs = dueMs;
    const count = lane.waiting.length;
    agenda.after(dueMs - agenda.nowMs, () => this.#arrive(lane, count));
  }

  #arrive(lane: Lane, count: number): void {
    lane.looking = false;
    if (this.#broken) return;
    if (this.#network.isCut(lane.from, lane.to)) {
      lane.looking = true;
      this.#network.agenda.after(STALL_LOOK_MS, () => this.#arrive(lane, count));
      return;
    }
    const arrived = lane.waiting.splice(0, count);
    const [target, source] =
      lane === this.#out ? [this.#server!, this.client] : [this.client, this.#server!];
    const ending = arrived.find((item) => "status" in item);
    for (const item of arrived) target.party.runSurely(() => target.take(item));
    if (ending === undefined) {
      if (lane.waiting.length > 0) this.#look(lane);
      return;
    }
    this.#finish();
    source.party.runSurely(() => source.take(ending));
  }

  /** Both sides hear of it, each at its own time; what was under way is lost. */
  break(why: string): void {
    if (this.#broken) return;
    this.#finish();
    for (const side of [this.client, this.#server]) {
      if (side === undefined || side.party.isOver) continue;
      this.#network.agenda.after(this.#network.delayMs(), () =>
        side.party.runSurely(() => side.take(unavailable(`connection lost: ${why}`))),
      );
    }
  }

  #finish(): void {
    this.#broken = true;
    this.client.party.onOver.delete(this.#clientOver);
    this.#server?.party.onOver.delete(this.#serverOver);
    this.#network.forget(this);
  }

  readonly #clientOver = (): void => this.#noticeEnd();
  readonly #serverOver = (): void => this.#noticeEnd();

  #noticeEnd(): void {
    if (this.#broken) return;
    this.#network.agenda.after(this.#network.endNoticeMs(), () => this.break("the process ended"));
  }
}
