/** The command lines of a cluster's members, as tests and long runs start them. */

export type NodePlace = {
  /** `host:port`. */
  readonly listen: string;
  /** Where others reach it: there, or at a proxy in front. */
  readonly advertise: string;
  readonly dataDir: string;
  /** Its machine, as far as placement is concerned. */
  readonly host: string;
  readonly zone?: string | undefined;
  /** Empty for a cluster of this node alone. */
  readonly seeds: readonly string[];
  /** So many seeds found the cluster; undefined for a node that joins. */
  readonly expect?: number | undefined;
};

export function storageNodeArguments(place: NodePlace): readonly string[] {
  const { listen, advertise, dataDir, host, zone, seeds, expect } = place;
  const args = ["storage-node", "--listen", listen, "--advertise", advertise];
  args.push("--data-dir", dataDir, "--host-name", host);
  if (zone !== undefined) args.push("--zone", zone);
  if (seeds.length > 0) args.push("--seeds", seeds.join(","));
  if (expect !== undefined) args.push("--bootstrap-expect", String(expect));
  return args;
}

/** Takes requests without credentials, unless `more` says which it wants. */
export function gatewayArguments(
  listen: string,
  seeds: readonly string[],
  more: readonly string[] = [],
): readonly string[] {
  const auth = more.includes("--auth") ? [] : ["--auth", "off"];
  return ["gateway", "--listen", listen, "--storage", seeds.join(","), ...auth, ...more];
}
