/** `minikv audit verify FILE…`: checks the chain of an audit log, from its files alone. */
import { placeOf, timeOf } from "#gateway/audit/entry.ts";
import { linesOf } from "#gateway/audit/lines.ts";
import { ChainVerifier, type Verdict } from "#gateway/audit/verify.ts";
import { EXIT_FAILURE } from "#shared/runtime/shutdown.ts";
import { type CliIo, failedCli, parsedArgs, WrongOption } from "./command-line.ts";

const HELP = `Usage: minikv audit verify FILE… [--anchor HASH]

Checks that no line was removed, changed, moved or put in: each carries the hash of the one before.
Files may be given in any order, the current one and those that were rotated (audit.log.0…).

  --anchor HASH   of a line that was there: the last hash that an earlier check has printed.
                  Without it, a check cannot see that lines were cut off at the end, or that all
                  lines from some place on were written anew.

Exit codes: 0 the chain is whole, 1 it is not, 2 wrong use.
`;

const FLAWS_MAX = 100;
const HASH = /^[0-9a-f]{64}$/;
/** Beside the log, and no part of it. */
const BESIDE = /\.lock$|\.torn-[0-9a-f]+$/;

/** @returns the exit code */
export async function runAuditCli(argv: readonly string[], io: CliIo): Promise<number> {
  try {
    const asked = parse(argv);
    if (asked === undefined) {
      io.out(HELP);
      return 0;
    }
    const { files, anchor } = asked;
    const verdict = await verify(await inOrder(files), anchor);
    return report(verdict, { count: files.length, anchor, io });
  } catch (error) {
    return failedCli("audit", error, io);
  }
}

/** Undefined for help. @throws WrongOption */
function parse(
  argv: readonly string[],
): { readonly files: readonly string[]; readonly anchor: string | undefined } | undefined {
  const options = { anchor: { type: "string" }, help: { type: "boolean", short: "h" } } as const;
  const { values, positionals } = parsedArgs({ args: [...argv], options, allowPositionals: true });
  if (values.help) return undefined;
  const [verb, ...named] = positionals;
  if (verb !== "verify") throw new WrongOption("there is one command: verify FILE…");
  const files = named.filter((file) => !BESIDE.test(file));
  if (files.length === 0) throw new WrongOption("no file is named");
  const { anchor } = values;
  if (anchor === undefined || HASH.test(anchor)) return { files, anchor };
  throw new WrongOption("--anchor takes 64 hexadecimal digits");
}

/** By the number of their first line, or of several chains by its time; those without any come last. */
async function inOrder(files: readonly string[]): Promise<readonly string[]> {
  const firsts: { readonly file: string; readonly seq: number; readonly time: string }[] = [];
  for (const file of files) {
    let first = { file, seq: Number.MAX_SAFE_INTEGER, time: "" };
    for await (const { line } of linesOf(file)) {
      const place = placeOf(line);
      if (place !== undefined) first = { file, seq: place.seq, time: timeOf(line) };
      break;
    }
    firsts.push(first);
  }
  const chains = firsts.filter(({ seq }) => seq === 1).length;
  if (chains > 1) firsts.sort((a, b) => (a.time === b.time ? 0 : a.time < b.time ? -1 : 1));
  else firsts.sort((a, b) => a.seq - b.seq);
  return firsts.map(({ file }) => file);
}

async function verify(files: readonly string[], anchor: string | undefined): Promise<Verdict> {
  const verifier = new ChainVerifier({ flawsMax: FLAWS_MAX, anchor });
  for (const file of files) {
    let number = 0;
    for await (const { line, isWhole } of linesOf(file))
      verifier.add(file, ++number, line, isWhole);
  }
  return verifier.verdict();
}

function report(
  verdict: Verdict,
  to: { readonly count: number; readonly anchor: string | undefined; readonly io: CliIo },
): number {
  const { anchor, io } = to;
  const { flaws, lines, firstSeq, lastSeq, lastHash, fromStart, isAnew, anchoredSeq } = verdict;
  for (const { file, line, problem } of flaws) io.error(`${file}:${line}: ${problem}\n`);
  if (flaws.length === FLAWS_MAX) io.error("…and maybe more\n");
  const files = to.count === 1 ? "one file" : `${to.count} files`;
  const range = lines === 0 ? "" : `, numbers ${firstSeq} to ${lastSeq}`;
  io.out(`${lines} lines${range}, in ${files}\n`);
  if (lines > 0 && !fromStart)
    io.out(`what came before number ${firstSeq} is not in these files\n`);
  if (isAnew) {
    io.out(
      "this chain began anew: there was a log before it, which the gateway did not find when it started. " +
        "Verify that one by itself, up to the hash that you kept of it\n",
    );
  }
  if (lastHash !== undefined) io.out(`last hash: ${lastHash}\n`);
  const isMissing = anchor !== undefined && anchoredSeq === undefined;
  if (isMissing) {
    io.error("no line has the hash of the anchor: lines were cut off, or written anew\n");
  } else if (anchoredSeq !== undefined) {
    io.out(`the anchor is number ${anchoredSeq}: all up to it is as it was\n`);
  } else if (lines > 0) {
    io.out(
      "without --anchor, lines that were cut off at the end are not seen: keep the last hash\n",
    );
  }
  const isWhole = flaws.length === 0 && !isMissing;
  io.out(isWhole ? "the chain is whole\n" : "the chain is BROKEN\n");
  return isWhole ? 0 : EXIT_FAILURE;
}
