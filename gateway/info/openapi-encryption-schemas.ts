/** The answers about keys and encryption in the OpenAPI document. */
const TEXT = { type: "string" } as const;
const COUNT = { type: "integer", minimum: 0 } as const;
const TEXT_OR_NULL = { type: ["string", "null"] } as const;

const object = (properties: Record<string, object>) =>
  ({ type: "object", required: Object.keys(properties), properties }) as const;

const wrappedWith = object({
  master_key: { ...TEXT, description: "Its id" },
  data_keys: COUNT,
  known_here: { type: "boolean", description: "This gateway can unwrap them" },
});

const unreadable = object({
  row: { ...TEXT, description: "Its name in the directory" },
  tenant: { ...TEXT_OR_NULL, description: "null when there is no such tenant" },
  data_key: { type: ["integer", "null"], minimum: 0, description: "Its number" },
  reason: TEXT,
});

const rotation = object({
  tenant: { ...TEXT_OR_NULL, description: "null when the tenant is being deleted" },
  data_key: {
    ...{ type: ["integer", "null"], minimum: 0 },
    description: "Number of the key that all values are to be under",
  },
  phase: {
    enum: ["resealing", "waiting", "checking", "unreadable"],
    description: "unreadable: the job's row is damaged, and nothing goes on",
  },
  examined: COUNT,
  resealed: COUNT,
  unreadable: { ...COUNT, description: "Damaged values; older keys are then kept" },
  started_at: { ...TEXT_OR_NULL, format: "date-time" },
  wait_seconds: { ...COUNT, description: "Until no gateway can still use an older key" },
});

export const encryptionSchemas = {
  Encryption: object({
    encrypts: { type: "boolean", description: "This gateway has a master key" },
    compresses_above: { type: ["integer", "null"], description: "Bytes; null for no compression" },
    master_key: { ...TEXT_OR_NULL, description: "Id of the one that wraps" },
    data_keys: COUNT,
    wrapped_with: { type: "array", items: wrappedWith },
    data_keys_unreadable: {
      ...COUNT,
      description: "Damaged rows. Nothing is written under these keys, nor read",
    },
    unreadable: { type: "array", items: unreadable, description: "The first 100 of them" },
    rotations: { type: "array", items: rotation },
  }),
  MasterKeyRotated: object({
    master_key: TEXT,
    rewrapped: { ...COUNT, description: "Keys that were wrapped with another one before" },
    keys_unreadable: { ...COUNT, description: "Damaged rows, left as they are" },
    unreadable: { type: "array", items: TEXT, description: "Names of the first 100 of them" },
  }),
  DataKeyRotation: object({ tenant: TEXT, data_key: COUNT }),
} as const;
