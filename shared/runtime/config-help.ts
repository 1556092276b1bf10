/**
 * What an operator reads about configuration: `minikv <program> --help` and `minikv config explain`.
 * Both are made from the schema, so that they cannot fall behind it.
 */
import {
  type ConfigSchema,
  type ConfigSource,
  environmentName,
  flagName,
  type LoadedConfig,
  type Settings,
} from "./config.ts";
import { defaultValue, describeForm, formatValue, type Setting } from "./config-value.ts";

const SECRET_MASK = "********";

/** The help of one program: every setting with its form, default, variable and file key. */
export function helpText<S extends Settings>(schema: ConfigSchema<S>): string {
  const { program, operands } = schema;
  const command = operands === undefined ? program : `${program} ${operands.form}`;
  const lines = [
    `Usage: minikv ${command} [--setting value …]`,
    "",
    schema.description,
    "",
    "Settings, each as a flag, an environment variable or a key of the TOML file; a flag wins over",
    "a variable, a variable over the file, the file over the default:",
    "",
  ];
  for (const setting of Object.values<Setting>(schema.settings)) {
    const flag = setting.neverAsFlag ? `${setting.key} (never as a flag)` : flagName(setting);
    lines.push(
      `  ${setting.type === "bool" ? flag : `${flag} <${setting.type}>`}`,
      `      ${setting.description}`,
      `      default ${defaultText(setting)} · form: ${describeForm(setting)}`,
      `      ${environmentName(setting)} · ${setting.key} = …`,
    );
  }
  lines.push(
    "  --config <path>",
    "      TOML file with settings. MINIKV_CONFIG",
    "  --help",
    "      This text.",
    "",
  );
  return lines.join("\n");
}

/** One line for each setting: its value and where that came from. Secrets are masked. */
export function explainText<S extends Settings>(
  schema: ConfigSchema<S>,
  loaded: LoadedConfig<S>,
): string {
  const rows: [string, string, string][] = [["setting", "value", "from"]];
  for (const name of Object.keys(schema.settings)) {
    const setting: Setting = schema.settings[name]!;
    const value = loaded.config[name]!;
    const source: ConfigSource = loaded.sources[name]!;
    rows.push([
      setting.key,
      masked(setting, formatValue(setting, value)),
      source.kind === "default" ? "default" : `${source.kind} ${source.place}`,
    ]);
  }
  const width = (column: 0 | 1) => Math.max(...rows.map((row) => row[column].length));
  const keyWidth = width(0);
  const valueWidth = width(1);
  return rows
    .map(([key, value, from]) => `${key.padEnd(keyWidth)}  ${value.padEnd(valueWidth)}  ${from}\n`)
    .join("");
}

function defaultText(setting: Setting): string {
  const text = masked(setting, formatValue(setting, defaultValue(setting)));
  return text === "" ? "nothing" : text;
}

/** That there is no secret is none: a mask would say that there is one. */
const masked = ({ secret }: Setting, text: string): string =>
  secret === true && text !== "" ? SECRET_MASK : text;
