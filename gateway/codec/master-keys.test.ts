/** Master keys: their lines, their files, and what they wrap. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { SeededRandom, systemRandom } from "#shared/random.ts";
import { ConfigError } from "#shared/runtime/config.ts";
import { loadMasterKeys } from "./master-key-source.ts";
import { masterKeyLine, parseMasterKeys } from "./master-keys.ts";
import { LINES, masterKeys } from "./testing.ts";

const idOf = (line: string) => line.split(":")[0]!;
const purpose = { scope: "tenant 00000001", name: "data-key/00000001/00000001" };
const random = new SeededRandom(7);

describe("parseMasterKeys()", () => {
  it("takes the first key as the current one, and knows the others", () => {
    const keys = parseMasterKeys(`# comment\n\n${LINES[1]}\n  ${LINES[0]} \n`);
    expect(keys.currentId).toBe(idOf(LINES[1]!));
    expect(LINES.map((line) => keys.has(idOf(line)))).toEqual([true, true, false]);
  });

  it("takes what masterKeyLine() makes, each with an id of its own", () => {
    const lines = Array.from({ length: 5 }, () => masterKeyLine(systemRandom()));
    expect(new Set(lines).size).toBe(5);
    for (const line of lines) expect(parseMasterKeys(line).currentId).toBe(idOf(line));
  });

  it.each([
    ["nothing", "\n# only a comment\n"],
    ["a short key", `a:${Buffer.alloc(31).toString("base64")}`],
    ["a long key", `a:${Buffer.alloc(33).toString("base64")}`],
    ["no id", LINES[0]!.slice(LINES[0]!.indexOf(":"))],
    ["an id twice", `${LINES[0]}\n${LINES[0]}`],
  ])("refuses %s, and repeats nothing of it", (_, text) => {
    const secret = text.split(":")[1]?.slice(0, 20) ?? "comment";
    expect(() => parseMasterKeys(text)).toThrow(/^(?:line \d|there is)/);
    expect(() => parseMasterKeys(text)).not.toThrow(secret);
  });
});

describe("MasterKeys", () => {
  it("unwraps what it wrapped, also when another key has become the current one", () => {
    const wrapped = masterKeys(0).wrap(purpose, utf8("secret"), random);
    expect(Buffer.from(wrapped.wrapped).includes("secret")).toBe(false);
    expect(masterKeys(1, 0).unwrap(purpose, wrapped)).toEqual(Buffer.from("secret"));
  });

  it("refuses a key that it has not, and says which", () => {
    const wrapped = masterKeys(0).wrap(purpose, utf8("secret"), random);
    const unwrap = () => masterKeys(1).unwrap(purpose, wrapped);
    expect(unwrap).toThrow(expect.objectContaining({ code: "ENCRYPTION_KEY_MISSING" }));
    expect(unwrap).toThrow(idOf(LINES[0]!));
  });

  it("refuses what was wrapped for another row or scope, or is damaged", () => {
    const keys = masterKeys(0);
    const whole = keys.wrap(purpose, utf8("secret"), random);
    const corrupt = expect.objectContaining({ code: "DATA_CORRUPT" });
    const other = { ...purpose, name: "data-key/00000002/00000001" };
    expect(() => keys.unwrap(other, whole)).toThrow(corrupt);
    expect(() => keys.unwrap({ ...purpose, scope: "tenant 00000002" }, whole)).toThrow(corrupt);
    for (let at = 0; at < whole.wrapped.length; at++) {
      const wrapped = Uint8Array.from(whole.wrapped);
      wrapped[at]! ^= 1;
      expect(() => keys.unwrap(purpose, { ...whole, wrapped })).toThrow(corrupt);
    }
    const wrapped = whole.wrapped.subarray(0, 27);
    expect(() => keys.unwrap(purpose, { ...whole, wrapped })).toThrow(corrupt);
  });
});

describe("loadMasterKeys()", () => {
  const none = { masterKeyFile: "", masterKey: "", masterKeyCommand: "" };
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "minikv-keys-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  const fileWith = (mode: number, text = `${LINES[0]}\n`) => {
    const path = join(directory, `keys-${mode.toString(8)}-${text.length}`);
    writeFileSync(path, text);
    chmodSync(path, mode);
    return { ...none, masterKeyFile: path };
  };

  it("reads a file that is its owner's alone", async () => {
    const keys = await loadMasterKeys(fileWith(0o600));
    expect(keys?.currentId).toBe(idOf(LINES[0]!));
    expect(await loadMasterKeys(none)).toBeUndefined();
    expect((await loadMasterKeys({ ...none, masterKey: LINES[1]! }))?.has(idOf(LINES[1]!))).toBe(
      true,
    );
  });

  it.each([0o640, 0o604, 0o620, 0o644])("refuses a file of mode %o", async (mode) => {
    await expect(loadMasterKeys(fileWith(mode))).rejects.toThrow(/chmod 600/);
  });

  it("refuses a file that is none, is too large, or has something else in it", async () => {
    const loading = (masterKeyFile: string) => loadMasterKeys({ ...none, masterKeyFile });
    await expect(loading(join(directory, "none"))).rejects.toThrow(ConfigError);
    await expect(loading(directory)).rejects.toThrow("no plain file");
    await expect(loadMasterKeys(fileWith(0o600, "#".repeat(20_000)))).rejects.toThrow(
      "more than 16384 bytes",
    );
    await expect(loadMasterKeys(fileWith(0o600, "x\n"))).rejects.toThrow("line 1");
  });

  it("runs a program without a shell, and takes what it prints", async () => {
    const script = join(directory, "kms.mjs");
    writeFileSync(script, "console.log(process.argv[2])");
    const command = (text: string) => ({
      ...none,
      masterKeyCommand: `"${process.execPath}" ${text}`,
    });
    const keys = await loadMasterKeys(command(`${script}  ${LINES[2]}`));
    expect(keys?.currentId).toBe(idOf(LINES[2]!));
    const spaced = join(directory, "with spaces.mjs");
    writeFileSync(spaced, "console.log(process.argv[2])");
    const again = await loadMasterKeys(command(`"${spaced}" ${LINES[2]}`));
    expect(again?.currentId).toBe(keys?.currentId);
    // The shell would have run something.
    const key = loadMasterKeys(command(`${script} $(id)`));
    await expect(key).rejects.toThrow("line 1");
  });

  it("says why a program gave no keys, and nothing that it printed", async () => {
    // No node: on a busy machine its start alone may take what a program may.
    const script = join(directory, "fails.sh");
    writeFileSync(script, "echo hush; echo hush >&2; exit 3");
    const failing = { ...none, masterKeyCommand: `/bin/sh ${script}` };
    const error: unknown = await loadMasterKeys(failing).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ConfigError);
    expect(String(error)).toContain("status 3");
    expect(String(error)).not.toContain("hush");
    const missing = { ...none, masterKeyCommand: join(directory, "missing") };
    await expect(loadMasterKeys(missing)).rejects.toThrow("ENOENT");
    writeFileSync(script, "head -c 100000 /dev/zero");
    await expect(loadMasterKeys(failing)).rejects.toThrow("prints too much");
  });
});
