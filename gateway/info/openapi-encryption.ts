/** The routes about keys and encryption in the OpenAPI document. */
import { jsonContent, problem, requestParameters } from "./openapi-parts.ts";

const tenantParameter = {
  name: "name",
  in: "path",
  required: true,
  description: "The tenant's name",
  schema: { type: "string" },
} as const;

const changeProblems = {
  "400": problem("INVALID_ARGUMENT"),
  "415": problem("UNSUPPORTED_MEDIA_TYPE"),
  "503": problem("ENCRYPTION_KEY_MISSING, UNAVAILABLE or OVERLOADED"),
};

export function encryptionPaths() {
  return {
    "/admin/encryption": {
      get: {
        operationId: "getEncryption",
        summary: "Keys in use, and rotations under way",
        description: "Names keys by their ids and numbers. No key is shown, wrapped or not.",
        tags: ["operators"],
        parameters: requestParameters,
        responses: {
          "200": { description: "As this gateway knows it", ...jsonContent("Encryption") },
          "400": problem("INVALID_ARGUMENT"),
          "503": problem("UNAVAILABLE"),
        },
      },
    },
    "/admin/encryption/rotate-master": {
      post: {
        operationId: "rotateMasterKey",
        summary: "Wrap all keys anew with the current master key",
        description:
          "The one that this gateway has first. Values are not touched. An older master key may be " +
          "removed when `GET /admin/encryption` shows nothing that is wrapped with it.",
        tags: ["operators"],
        parameters: requestParameters,
        responses: {
          "200": { description: "Done", ...jsonContent("MasterKeyRotated") },
          ...changeProblems,
        },
      },
    },
    "/admin/tenants/{name}/rotate-key": {
      parameters: [tenantParameter],
      post: {
        operationId: "rotateDataKey",
        summary: "Give a tenant a new data key",
        description:
          "From now on values are encrypted with it. All others are encrypted anew in the background, " +
          "also those that were stored before there was a master key; entity tags stay. Older keys " +
          "are destroyed when nothing is left that needs them.",
        tags: ["operators"],
        parameters: requestParameters,
        responses: {
          "202": { description: "Begun", ...jsonContent("DataKeyRotation") },
          ...changeProblems,
          "404": problem("RESOURCE_NOT_FOUND"),
          "409": problem(
            "ALREADY_EXISTS: a rotation of this tenant's key is under way; or CONFLICT",
          ),
        },
      },
    },
  };
}
