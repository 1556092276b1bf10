/** An audit log for tests: a clock that stands still, and a log of its own. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuditLog, type AuditLogOptions } from "#gateway/audit/audit-log.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { Cancellation } from "#gateway/storage/cancellation.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { createLogger, type Logger } from "#shared/runtime/log.ts";

export type AuditFixture = {
  readonly log: AuditLog;
  readonly clock: ManualClock;
  /** What the process logged. */
  readonly logged: string[];
};

export function auditFixture(options: Partial<AuditLogOptions> = {}): AuditFixture {
  const clock = new ManualClock();
  const logged: string[] = [];
  const logger: Logger = createLogger({
    level: "info",
    program: "test",
    write: (line) => logged.push(line),
  });
  return { log: new AuditLog({ clock, logger, gateway: "gw", ...options }), clock, logged };
}

/** A directory, and what removes it. */
export function auditDirectory(): { readonly directory: string; readonly remove: () => void } {
  const directory = mkdtempSync(join(tmpdir(), "minikv-audit-"));
  return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) };
}

export function fakeExchange(method: string, target: string): Exchange {
  return {
    ...{ method, target, requestId: "r-1", peerAddress: "192.0.2.1" },
    cancellation: new Cancellation(),
    isBodyUnannounced: false,
    header: () => undefined,
    readBody: async () => EMPTY_BYTES,
  };
}

export const linesIn = (text: string): readonly string[] => text.split("\n").slice(0, -1);
