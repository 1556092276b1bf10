/**
 * What programs load before they serve: each package costs every start time and memory, whether it is used or not.
 * Those that only some need are imported where they are needed.
 */
import { posix } from "node:path";
import { expect, it } from "vitest";
import { descendants, isNode, type SourceFile, sourceFiles } from "./source.ts";

const NEEDED_BY_SOME = [
  ...["@nats-io/", "@opentelemetry/", "classic-level", "jose", "prom-client", "rocksdb-native"],
];

const files = new Map(sourceFiles().map((file) => [file.path, file]));

/** Specifiers of what is loaded together with the file. */
function loadedWith(file: SourceFile): readonly string[] {
  const specifiers: string[] = [];
  for (const node of descendants(file.tree)) {
    if (!/^(ImportDeclaration|Export(Named|All)Declaration)$/.test(node.type)) continue;
    if (node.importKind === "type" || node.exportKind === "type") continue;
    if (isNode(node.source)) specifiers.push(String(node.source.value));
  }
  return specifiers;
}

/** Packages, each with a file that loads it. */
function packagesOf(entry: string): ReadonlyMap<string, string> {
  const packages = new Map<string, string>();
  const seen = new Set([entry]);
  for (const path of seen) {
    const file = files.get(path);
    if (file === undefined) continue;
    for (const specifier of loadedWith(file)) {
      if (specifier.startsWith("#")) seen.add(specifier.slice(1));
      else if (specifier.startsWith(".")) seen.add(posix.join(posix.dirname(path), specifier));
      else packages.set(specifier, path);
    }
  }
  return packages;
}

it.each([
  ["bin/dev.ts", ["@grpc/", ...NEEDED_BY_SOME]],
  ["gateway/thread-main.ts", ["@grpc/", ...NEEDED_BY_SOME]],
  ["gateway/main.ts", NEEDED_BY_SOME],
  ["storage-node/main.ts", NEEDED_BY_SOME],
])("%s loads no package that only some need", (entry, unwanted) => {
  const packages = packagesOf(entry);
  expect(packages.has("pino") || packages.has("@bufbuild/protobuf")).toBe(true);
  const loaded = [...packages].filter(([name]) => unwanted.some((one) => name.startsWith(one)));
  expect(loaded).toEqual([]);
});
