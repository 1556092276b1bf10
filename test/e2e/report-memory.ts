/**
 * Loaded into a server by a test (`NODE_OPTIONS=--import …`): on SIGUSR2 it collects garbage and
 * writes what is still held as a log line. Resident memory would say little: the allocator keeps
 * what was freed, and an idle process does not collect.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

process.on("SIGUSR2", () => {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  const record = { level: "info", msg: "memory held", heldBytes: heapUsed + external };
  process.stderr.write(`${JSON.stringify(record)}\n`);
});
