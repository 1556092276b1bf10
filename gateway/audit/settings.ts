/** Settings of the audit log; the same in every program that serves HTTP. */
export const auditSettings = {} as const;
