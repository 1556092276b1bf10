/**
 * `docs/errors.md` has one row for each code of the error table, in its order and with its words.
 * On a difference the message holds the table as it should be.
 */
import { describe, expect, it } from "vitest";
import { ERRORS, GrpcStatus } from "#shared/errors.ts";
import { readText } from "./source.ts";

const grpcName = (status: GrpcStatus): string => {
  const found = Object.entries(GrpcStatus).find(([, value]) => value === status);
  return found![0].replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
};

const rows = Object.entries(ERRORS).map(([code, row]) => {
  const retryable = row.retryable ? "yes" : "no";
  const meaning = `**${row.title}.** ${row.meaning}`;
  return `| \`${code}\` | ${row.http} | ${grpcName(row.grpc)} | ${retryable} | ${meaning} | ${row.remedy} |`;
});

describe("docs/errors.md", () => {
  it("has exactly the rows of the error table", () => {
    const written = readText("docs/errors.md")
      .split("\n")
      .filter((line) => line.startsWith("| `"));
    expect(written).toEqual(rows);
  });
});

describe("the error table", () => {
  it("gives every code a wire number of its own", () => {
    const numbers = Object.values(ERRORS).map(({ wire }) => wire);
    expect(new Set(numbers).size).toBe(numbers.length);
  });

  it("calls retryable nothing that is the client's own mistake", () => {
    const odd = Object.entries(ERRORS).filter(
      ([, row]) => row.retryable && row.http < 500 && ![408, 409, 429, 499].includes(row.http),
    );
    expect(odd.map(([code]) => code)).toEqual([]);
  });
});
