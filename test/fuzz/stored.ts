/** Inputs that once broke something: a file each, run again by every unit run. */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FoundCase } from "./run.ts";

export const CASES_DIRECTORY = join(import.meta.dirname, "cases");

type StoredCase = {
  readonly target: string;
  readonly input: Uint8Array;
  readonly file: string;
};

/** The name of the file. The same input gives the same one. */
export function storeCase(found: FoundCase): string {
  const digest = createHash("sha256").update(found.input).digest("hex").slice(0, 12);
  const file = `${found.target}-${digest}.json`;
  const { target, reason, seed, path, input } = found;
  const text = Buffer.from(input).toString("latin1");
  const isReadable = /^[\x20-\x7e]*$/.test(text);
  const content = {
    ...{ target, reason, seed, path },
    input_base64: Buffer.from(input).toString("base64"),
    ...(isReadable ? { input_as_text: text } : {}),
  };
  mkdirSync(CASES_DIRECTORY, { recursive: true });
  writeFileSync(join(CASES_DIRECTORY, file), `${JSON.stringify(content, null, 2)}\n`);
  return file;
}

export function storedCases(): readonly StoredCase[] {
  return readdirSync(CASES_DIRECTORY)
    .filter((file) => file.endsWith(".json"))
    .map((file) => {
      const text = readFileSync(join(CASES_DIRECTORY, file), "utf8");
      const { target, input_base64: input } = JSON.parse(text) as Record<string, string>;
      return { target: target!, input: Buffer.from(input!, "base64"), file };
    });
}
