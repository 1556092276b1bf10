/** What an operation does, in one word: for traces and whoever else counts kinds. */
import type { OperationBody } from "./messages.ts";

export type OperationName =
  | "get"
  | "scan"
  | "count"
  | "cancel"
  | "put"
  | "delete"
  | "expire"
  | "reseal"
  | "batch";

/** `batch` for every command of several mutations. */
export function operationName(body: OperationBody): OperationName {
  switch (body.kind) {
    case "write": {
      const { mutations } = body.command;
      return mutations.length === 1 ? mutations[0]!.action.kind : "batch";
    }
    case "scan":
      return body.countOnly ? "count" : "scan";
    default:
      return body.kind;
  }
}
