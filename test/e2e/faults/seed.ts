/**
 * The seed of a run: fresh each time, printed, and taken from `MINIKV_FAULT_SEED` to run one again.
 *
 * What the server does in between depends on the machine too, so a seed repeats the plan of a run
 * and not its every moment. (The variable does not reach the servers: the harness keeps settings of
 * minikv's own prefix from them.)
 */
const VARIABLE = "MINIKV_FAULT_SEED";

export function runSeed(name: string): number {
  const given = process.env[VARIABLE];
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(given);
  process.stdout.write(`${name}: ${VARIABLE}=${seed}\n`);
  return seed;
}
