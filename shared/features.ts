/**
 * Feature versions: what a cluster whose storage nodes run different builds may do (docs/decisions/0020).
 *
 * Each build knows the features up to its `FEATURE_VERSION`. The version in the cluster map is what all storage
 * nodes know. It rises by itself when the last of them has been updated, and never falls. So whoever sees a
 * version in a map may rely on it for ever, also with an old map; a build that knows less must not be a member.
 */

/** What this build knows. Raised together with a new row below. */
export const FEATURE_VERSION = 2;

/** Of nodes that tell none: they are of builds before feature versions were told. */
export const FEATURE_VERSION_FIRST = 1;

/** As of which version a cluster has a feature. The keys are for people. */
export const FEATURES = {
  /** The service Changes of storage nodes. */
  "watches of keys": 2,
  /** `Space.Ticket`. */
  "single-use tickets": 2,
  /** `encoding` of values, and reseals. An older node would forget it, and the value could not be read. */
  "compressed or encrypted values": 2,
} as const satisfies Record<string, number>;
export type Feature = keyof typeof FEATURES;

/** A version as it was told; builds before tell 0. */
export const toldFeatureVersion = (told: number): number => Math.max(FEATURE_VERSION_FIRST, told);

/** Why a cluster cannot do it yet, and what to do; undefined when it can. */
export function missingFeature(
  { featureVersion }: { readonly featureVersion: number },
  feature: Feature,
): string | undefined {
  if (featureVersion >= FEATURES[feature]) return undefined;
  return (
    `${feature} need feature version ${FEATURES[feature]}, and the cluster has ${featureVersion}: update all of ` +
    "its storage nodes (GET /admin/status shows the version of each); the cluster's then rises by itself"
  );
}

/** Why a build that knows the features up to `known` cannot be a member; undefined when it can. */
export function tooOldFor(
  { featureVersion }: { readonly featureVersion: number },
  known: number,
  who: string,
): string | undefined {
  if (known >= featureVersion) return undefined;
  return (
    `${who} is of an older build of minikv: it knows feature version ${known}, and the cluster uses ` +
    `${featureVersion}, which is never taken back. Update it, at least to the build of the other storage nodes`
  );
}
