/** Bodies and messages of watches in the OpenAPI document. */
const TEXT = { type: "string" } as const;
const OPS = { enum: ["put", "delete", "expire"] } as const;

/** Part of `components.schemas`. */
export const watchSchemas = {
  WatchTicketRequest: {
    type: "object",
    additionalProperties: false,
    properties: {
      key: TEXT,
      key64: { ...TEXT, description: "The same in base64url" },
      prefix: { ...TEXT, description: "Without key and prefix: all keys" },
      prefix64: { ...TEXT, description: "The same in base64url" },
      ops: { type: "array", items: OPS, minItems: 1 },
      values: { type: "boolean", default: false },
    },
  },
  WatchTicket: {
    type: "object",
    required: ["ticket", "expires_in"],
    properties: {
      ticket: { ...TEXT, description: "For `?ticket=`" },
      expires_in: { type: "integer", description: "Seconds" },
    },
  },
  WatchMessage: {
    type: "object",
    required: ["event", "data"],
    properties: {
      event: TEXT,
      data: {
        type: "object",
        description:
          "Of a change. `key` or `key64`; a value as text or, where it is none, as base64",
        properties: {
          op: OPS,
          key: TEXT,
          key64: TEXT,
          revision: { type: "integer" },
          value: TEXT,
          value_base64: TEXT,
          content_type: TEXT,
          ttl: { type: "integer" },
          time: TEXT,
          txn: TEXT,
        },
      },
      token: { ...TEXT, description: "To go on behind this event" },
    },
  },
} as const;
