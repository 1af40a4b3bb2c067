/** The command line itself: help, wrong flags, wrong values. Every mistake is exit code 2 and names what to do. */
import test from "ava";
import { runCli } from "./run-cli.js";

const commands = ["start", "worker", "dbnode", "hotboot", "simulator", "status"];

test("--help names every command", async (t) => {
  const { code, stdout } = await runCli(["--help"]);
  t.is(code, 0);
  for (const command of commands) t.regex(stdout, new RegExp(`^ +${command} `, "m"));
});

for (const command of commands) {
  test(`${command} --help explains each flag with its environment variable`, async (t) => {
    const { code, stdout } = await runCli([command, "--help"]);
    t.is(code, 0);
    t.true(stdout.includes("--log-level <level>"));
    t.true(stdout.includes("GUILDSTREAM_LOG_LEVEL"));
  });
}

const mistakes: { name: string; args: string[]; env?: Record<string, string>; says: RegExp }[] = [
  { name: "an unknown flag", args: ["start", "--gilds", "5"], says: /unknown option '--gilds'/ },
  { name: "an unknown command", args: ["run"], says: /unknown command 'run'/ },
  { name: "a word too many", args: ["status", "please"], says: /too many arguments/ },
  {
    name: "a rate that is no number",
    args: ["start", "--rate", "fast"],
    says: /whole number from 0 to 100000/,
  },
  { name: "a negative number", args: ["start", "--guilds=-5"], says: /whole number from 1 to 200000/ },
  { name: "no workers", args: ["start", "--workers", "0"], says: /whole number from 1 to 64/ },
  { name: "half a second", args: ["start", "--duration", "0.5"], says: /whole number from 1/ },
  {
    name: "shards that are no count",
    args: ["worker", "--shards", "many"],
    says: /must be auto, or a whole number/,
  },
  { name: "an even number of replicas", args: ["worker", "--replicas", "2"], says: /must be 1, 3 or 5/ },
  { name: "an id with a dot", args: ["dbnode", "--id", "a.b"], says: /letters, digits, - or _/ },
  { name: "an API that is no URL", args: ["worker", "--discord-api", "discord"], says: /begins with http/ },
  {
    name: "an unknown log level",
    args: ["worker", "--log-level", "loud"],
    says: /Allowed choices are debug/,
  },
  {
    name: "a wrong environment variable",
    args: ["start"],
    env: { GUILDSTREAM_WORKERS: "two" },
    says: /GUILDSTREAM_WORKERS.*whole number/s,
  },
  { name: "a check of nobody", args: ["status", "--check"], says: /--id NAME/ },
  {
    name: "a check that goes on",
    args: ["status", "--check", "--watch", "--id", "a"],
    says: /--check looks once/,
  },
];

for (const { name, args, env = {}, says } of mistakes) {
  test(`${name} is refused with exit code 2`, async (t) => {
    const { code, stdout, stderr } = await runCli(args, { env });
    t.is(code, 2);
    t.regex(stderr, says);
    t.is(stdout, "");
    t.notRegex(stderr, /^\s+at /m);
  });
}

test("a flag wins over its environment variable", async (t) => {
  const env = { GUILDSTREAM_LOG_LEVEL: "loud" };
  const { code, stderr } = await runCli(["worker", "--log-level", "info"], { env });
  t.is(code, 1);
  t.regex(stderr, /DISCORD_TOKEN_INVALID/);
});
