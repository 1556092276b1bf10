/** What goes wrong, and for how long. */
import type { SeededRandom } from "#shared/random.ts";
import type { Agenda } from "./agenda.ts";
import type { Gateway } from "./gateway.ts";
import type { Machine } from "./machine.ts";
import type { Network } from "./network.ts";
import type { FaultName, Options } from "./options.ts";

export type FaultParts = {
  readonly agenda: Agenda;
  readonly network: Network;
  readonly random: SeededRandom;
  readonly machines: readonly Machine[];
  readonly gateways: readonly Gateway[];
  readonly options: Options;
  readonly onFault: (name: FaultName, machine: string) => void;
};

export class Faults {
  readonly #parts: FaultParts;
  #over = false;
  count = 0;

  constructor(parts: FaultParts) {
    this.#parts = parts;
  }

  begin(): void {
    const { faultEveryMs } = this.#parts.options;
    for (const [name, everyMs] of Object.entries(faultEveryMs)) {
      this.#later(name as FaultName, everyMs);
    }
  }

  #later(name: FaultName, everyMs: number): void {
    const { agenda, random } = this.#parts;
    agenda.after(-Math.log(1 - random.float()) * everyMs, () => {
      if (this.#over) return;
      this.#strike(name);
      this.#later(name, everyMs);
    });
  }

  /** Everything works again, from now on. */
  end(): void {
    const { network, machines } = this.#parts;
    this.#over = true;
    network.faults = false;
    network.heal();
    for (const machine of machines) {
      machine.diskFactor = 1;
      machine.party?.resume();
      if (!machine.running && !machine.retired && machine.hasBegun) machine.start();
    }
  }

  #durationMs(): number {
    const { random, options } = this.#parts;
    return 50 + random.below(options.faultMsMax);
  }

  #strike(name: FaultName): void {
    const { machines, random, network, agenda, onFault } = this.#parts;
    const machine = machines[random.below(machines.length)]!;
    this.count++;
    onFault(name, machine.name);
    switch (name) {
      case "crash":
      case "kill":
        this.#crash(machine, name === "crash");
        return;
      case "restart":
        machine.stop(() => this.#startLater(machine));
        return;
      case "outage":
        for (const each of machines) this.#crash(each, true);
        return;
      case "pause":
        this.#pause(machine);
        return;
      case "isolate":
      case "split":
      case "oneWay":
      case "gatewayCut":
        this.#cut(name, machine);
        agenda.after(this.#durationMs(), () => network.heal());
        return;
      case "breakConnection":
        network.breakOne();
        return;
      case "slowDisk":
        machine.diskFactor = 3 + random.below(30);
        agenda.after(this.#durationMs(), () => {
          machine.diskFactor = 1;
        });
        return;
      case "jump":
        machine.jumpWall(random.below(4_000) - 2_000);
        return;
      case "flush":
        machine.flush();
        return;
    }
  }

  #crash(machine: Machine, losesPower: boolean): void {
    if (!machine.running) return;
    machine.crash({ losesPower });
    this.#startLater(machine);
  }

  #startLater(machine: Machine): void {
    this.#parts.agenda.after(this.#durationMs(), () => {
      // Also when the faults have ended meanwhile: one that was stopping then was not started.
      if (!machine.running && !machine.retired) machine.start();
    });
  }

  #pause(machine: Machine): void {
    const { party } = machine;
    if (party === undefined || party.isPaused) return;
    party.isPaused = true;
    this.#parts.agenda.after(this.#durationMs(), () => party.resume());
  }

  #cut(name: "isolate" | "split" | "oneWay" | "gatewayCut", machine: Machine): void {
    const { network, machines, gateways, random } = this.#parts;
    const names = [...machines, ...gateways.map(({ party }) => party)].map((each) => each.name);
    const others = names.filter((other) => other !== machine.name);
    if (name === "gatewayCut") {
      const gateway = gateways[random.below(gateways.length)]!.party.name;
      if (random.below(2) === 0) network.cut(gateway, machine.name);
      else network.cut(machine.name, gateway);
      return;
    }
    const side = name === "split" ? names.filter(() => random.below(2) === 0) : [machine.name];
    const rest = name === "split" ? names.filter((each) => !side.includes(each)) : others;
    const isInto = random.below(2) === 0;
    for (const a of side) {
      for (const b of rest) {
        if (name !== "oneWay" || isInto) network.cut(b, a);
        if (name !== "oneWay" || !isInto) network.cut(a, b);
      }
    }
  }
}
