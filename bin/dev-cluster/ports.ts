/**
 * Free ports on this machine for processes that have to know each other's addresses before they run.
 *
 * They are taken from below the range from which systems give ports to outgoing connections
 * (32768 and up on Linux, 49152 and up elsewhere): a port that is remembered over restarts must not
 * be in use by a passing client when its owner comes back. Where the search begins is drawn, so that
 * two clusters that start at the same moment hardly meet.
 */
import { createServer } from "node:net";
import type { Random } from "#shared/random.ts";

const PORT_MIN = 20_000;
const PORT_MAX = 32_767;
/** Probes for one port, before the search is given up. */
const PROBES_PER_PORT_MAX = 1_000;

export type FindPortsOptions = {
  readonly host: string;
  readonly count: number;
  readonly random: Random;
  /** Ports that somebody owns who may not listen right now. */
  readonly taken?: ReadonlySet<number>;
  /** The first one to try; drawn when it is not given. */
  readonly from?: number;
};

/**
 * Ports on which nobody listens, ascending from where the search begins.
 *
 * @throws RangeError when there are not enough of them
 */
export async function findFreePorts(options: FindPortsOptions): Promise<readonly number[]> {
  const { host, count, random, taken, from } = options;
  const last = from === undefined ? PORT_MAX : 65_535;
  const found: number[] = [];
  let port = from ?? PORT_MIN + random.below(PORT_MAX - PORT_MIN + 1);
  for (let probes = 0; found.length < count; probes++) {
    if (probes >= count * PROBES_PER_PORT_MAX) {
      throw new RangeError(`found only ${found.length} of ${count} free ports on ${host}`);
    }
    if (port > last) port = PORT_MIN;
    const isOurs = taken?.has(port) === true || found.includes(port);
    if (!isOurs && (await isFree({ host, port }))) found.push(port);
    port++;
  }
  return found;
}

/** Whether a listener can be opened there at this moment. */
export function isFree(address: {
  readonly host: string;
  readonly port: number;
}): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen({ ...address, exclusive: true }, () => probe.close(() => resolve(true)));
  });
}
