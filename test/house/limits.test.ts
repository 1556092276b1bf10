/** The files of limits (`shared/limits*.ts`): each limit stands in one of them only. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { ROOT, readText } from "./source.ts";

const FILES = readdirSync(join(ROOT, "shared")).filter((name) =>
  /^(?:edge-)?limits.*(?<!\.test)\.ts$/.test(name),
);

it("no limit stands in two files, where one could be changed without the other", () => {
  const names = FILES.flatMap((file) =>
    [...readText(`shared/${file}`).matchAll(/^export const (\w+)/gm)].map(([, name]) => name!),
  );
  expect(names.length).toBeGreaterThan(300);
  const twice = names.filter((name, at) => names.indexOf(name) !== at);
  expect(twice).toEqual([]);
});
