/** What a query comes to: the vshards that have its keys, and a name that equal queries share. */
import { latin1 } from "#shared/bytes.ts";
import { Space, VSHARD_COUNT, type VshardId } from "#shared/ids.ts";
import { vshardOf, vshardOfPrefix } from "#shared/vshard.ts";
import type { WatchQuery } from "./watches.ts";

const ALL_VSHARDS = Array.from({ length: VSHARD_COUNT }, (_, vshard) => vshard as VshardId);

export function scopeOf({ tenant, filter }: WatchQuery): readonly VshardId[] {
  const space = Space.Kv;
  if (filter.kind === "key") return [vshardOf({ tenant, space, key: filter.key })];
  const vshard = vshardOfPrefix({ tenant, space, key: filter.prefix });
  return vshard === undefined ? ALL_VSHARDS : [vshard];
}

export function nameOf({ tenant, filter, ops, values, format }: WatchQuery): string {
  const key = filter.kind === "key" ? filter.key : filter.prefix;
  return `${tenant} ${format} ${values} ${ops.join(",")} ${filter.kind} ${latin1(key)}`;
}
