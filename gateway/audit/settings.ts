/** Settings of the audit log; the same in every program that serves HTTP. */
const MIB = 1024 * 1024;

export const auditSettings = {
  auditFile: {
    key: "audit-file",
    type: "path",
    default: "",
    description: "File of this gateway's audit log. Empty: its newest lines are in memory only.",
  },
  auditFileSizeBytes: {
    key: "audit-file-size",
    type: "bytes",
    min: 64 * 1024,
    max: 4096 * MIB,
    default: 64 * MIB,
    description: "Size at which the file of the audit log is rotated.",
  },
  auditFiles: {
    key: "audit-files",
    type: "int",
    min: 1,
    max: 10_000,
    default: 16,
    description: "Rotated files of the audit log that are kept.",
  },
  auditStdout: {
    key: "audit-stdout",
    type: "bool",
    default: false,
    description: "Print each line of the audit log to standard output too.",
  },
  auditData: {
    key: "audit-data",
    type: "enum",
    values: ["off", "writes"],
    default: "off",
    description: "Whether changes of keys are recorded: not at all, or with a hash of the key.",
  },
  auditRequired: {
    key: "audit-required",
    type: "bool",
    default: false,
    description: "Refuse administrative actions while the file of the audit log cannot be written.",
  },
} as const;

/** What is wrong with the settings together; undefined when nothing is. */
export function refuseAuditConfig(config: {
  readonly auditFile: string;
  readonly auditStdout: boolean;
  readonly auditData: "off" | "writes";
  readonly auditRequired: boolean;
}): string | undefined {
  const { auditFile, auditStdout, auditData, auditRequired } = config;
  if (auditRequired && auditFile === "") return "--audit-required needs --audit-file";
  if (auditData === "writes" && auditFile === "" && !auditStdout) {
    return "--audit-data writes needs --audit-file or --audit-stdout";
  }
  return undefined;
}
