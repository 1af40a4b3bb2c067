/**
 * Owns the comparison of the commands Discord has with the ones a bot defines. Pure.
 *
 * Discord answers with its own fields added (id, version, ...), with defaults filled in and with nulls where a
 * definition is silent. So every field of the definition has to be there with the same value, and no command more.
 */
import type { RESTPutAPIApplicationCommandsJSONBody } from "discord-api-types/v10";

/** Whether registering these would change nothing. When in doubt: no. */
export function hasSameCommands(present: unknown, wanted: RESTPutAPIApplicationCommandsJSONBody): boolean {
  if (!Array.isArray(present) || present.length !== wanted.length) return false;
  const byKey = new Map(present.map((command) => [keyOf(command), command]));
  return wanted.every((definition) => {
    const command = byKey.get(keyOf(definition));
    return command !== undefined && covers(command, { type: 1, ...definition });
  });
}

function keyOf(command: { name: string; type?: number | undefined }): string {
  return `${command.type ?? 1}:${command.name}`;
}

/** Fields whose removal from a definition has to be noticed: silent there, they must not be set at Discord. */
const optionalFields = ["options", "choices", "required", "autocomplete", "min_value", "max_value"];

function covers(present: unknown, wanted: unknown): boolean {
  if (wanted === null || typeof wanted !== "object")
    return isSilent(wanted) ? isSilent(present) : present === wanted;
  if (Array.isArray(wanted)) {
    if (!Array.isArray(present)) return wanted.length === 0 && isSilent(present);
    return present.length === wanted.length && wanted.every((item, index) => covers(present[index], item));
  }
  if (present === null || typeof present !== "object") return false;
  const [has, wants] = [present as Record<string, unknown>, wanted as Record<string, unknown>];
  return (
    Object.keys(wants).every((key) => covers(has[key], wants[key])) &&
    optionalFields.every((key) => key in wants || isSilent(has[key]))
  );
}

/** Discord leaves out, nulls or empties what was not given. */
function isSilent(value: unknown): boolean {
  return (
    value === undefined || value === null || value === false || (Array.isArray(value) && value.length === 0)
  );
}
