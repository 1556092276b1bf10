/** The way to a storage node in the same process. */
import { describe, expect, it } from "vitest";
import type { Operation, ResultBody } from "#proto/codec/messages.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { ERRORS } from "#shared/errors.ts";
import { DEFAULT_TENANT, Space, type VshardId } from "#shared/ids.ts";
import { LocalChannel } from "./local-channel.ts";

function setUp() {
  const clock = new ManualClock();
  const asked: Operation[] = [];
  const result: ResultBody = { kind: "write", applied: true, mutations: [] };
  const channel = new LocalChannel({
    handler: {
      operate: (operation, reply) => {
        asked.push(operation);
        reply(result);
      },
    },
    readiness: () => ({ ready: asked.length > 0, reason: "starting" }),
    clock,
  });
  const get = (key: string): Operation => ({
    callId: 1,
    vshard: 0 as VshardId,
    deadlineMs: clock.nowMs() + 100,
    traceContext: EMPTY_BYTES,
    body: {
      kind: "get",
      tenant: DEFAULT_TENANT,
      space: Space.Kv,
      key: utf8(key),
      maxStalenessMs: 0,
      metadataOnly: false,
    },
  });
  return { channel, clock, asked, result, get };
}

describe("LocalChannel", () => {
  it("hands operations on as they are, and their answers back", () => {
    const { channel, asked, result, get } = setUp();
    const answers: ResultBody[] = [];
    const operation = get("key");
    expect(channel.readiness().ready).toBe(false);
    channel.send(operation, (body) => answers.push(body));
    expect(asked[0]).toBe(operation);
    expect(answers[0]).toBe(result);
    expect(channel.readiness().ready).toBe(true);
  });

  it("keeps the rules of a storage node's door", () => {
    const { channel, clock, asked, get } = setUp();
    const answers: ResultBody[] = [];
    channel.send(get(""), (body) => answers.push(body));
    const late = get("key");
    clock.advance(100);
    channel.send(late, (body) => answers.push(body));
    expect(answers).toMatchObject([
      { code: ERRORS.INVALID_ARGUMENT.wire },
      { code: ERRORS.DEADLINE_EXCEEDED.wire },
    ]);
    expect(asked).toEqual([]);
  });

  it("cannot take back what it handed on", () => {
    expect(setUp().channel.cancel()).toBe(false);
  });
});
