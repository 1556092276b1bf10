import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { DISK_CHECK_INTERVAL_MS } from "#shared/limits.ts";
import { DiskGuard, systemFreeSpace } from "./disk-guard.ts";

function guardWith(reserveBytes: number) {
  const clock = new ManualClock();
  const disk = { freeBytes: 1000, error: undefined as unknown };
  const changes: boolean[] = [];
  const guard = new DiskGuard({
    path: ".",
    reserveBytes,
    clock,
    probe: (_path, done) => done(disk.error, disk.freeBytes),
    onChange: (writable) => changes.push(writable),
  });
  guard.start();
  const look = () => clock.advance(DISK_CHECK_INTERVAL_MS);
  return { guard, disk, changes, look };
}

describe("DiskGuard", () => {
  it("refuses writes below the reserve and takes them again when space is freed", () => {
    const { guard, disk, changes, look } = guardWith(500);
    expect(guard.take(1, false)).toBe(true);
    disk.freeBytes = 499;
    look();
    expect(guard.take(1, false)).toBe(false);
    disk.freeBytes = 700;
    look();
    expect(guard.take(1, false)).toBe(true);
    expect(changes).toEqual([false, true]);
  });

  it("counts what it let in since the last look", () => {
    const { guard } = guardWith(500);
    expect(guard.take(100, false)).toBe(true);
    expect(guard.take(100, false)).toBe(false);
    expect(guard.writable).toBe(false);
  });

  it("lets deletes use half of the reserve", () => {
    const { guard, disk, look } = guardWith(500);
    disk.freeBytes = 400;
    look();
    expect(guard.take(1, false)).toBe(false);
    expect(guard.take(1, true)).toBe(true);
    disk.freeBytes = 240;
    look();
    expect(guard.take(1, true)).toBe(false);
  });

  it("does not flap around the reserve", () => {
    const { guard, disk, look } = guardWith(500);
    disk.freeBytes = 499;
    look();
    disk.freeBytes = 510;
    look();
    expect(guard.writable).toBe(false);
    disk.freeBytes = 560;
    look();
    expect(guard.writable).toBe(true);
  });

  it("refuses writes when the file system cannot be asked", () => {
    const { guard, disk, look } = guardWith(500);
    disk.error = new Error("EIO");
    look();
    expect(guard.take(1, false)).toBe(false);
  });

  it("systemFreeSpace() reports the free bytes of a path, and an error for none", async () => {
    const ask = (path: string) =>
      new Promise<{ error: unknown; freeBytes: number }>((resolve) =>
        systemFreeSpace(path, (error, freeBytes) => resolve({ error, freeBytes })),
      );
    expect((await ask(".")).freeBytes).toBeGreaterThan(0);
    expect((await ask("./no/such/path")).error).toBeTruthy();
  });
});
