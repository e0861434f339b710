// nodemailer as a worker: the questions and answers of benchmarks/worker.py.
//
//   node nodemailer.cjs '{"module": "...", "what": "single", "job": {...}}'
"use strict";

const readline = require("readline");

const options = JSON.parse(process.argv[2]);
const nodemailer = require(options.module);
const { job, what } = options;
const sender = "bench@example.org";
const raw = Buffer.from(options.content, "latin1");
const to = Array.from({ length: job.recipients }, (_, number) => `rcpt${number}@example.com`);

const transporter = nodemailer.createTransport({
  host: job.host,
  port: job.port,
  secure: job.tls === "implicit",
  requireTLS: job.tls === "starttls",
  ignoreTLS: job.tls === "none",
  pool: what !== "cold",
  maxConnections: 1,
  maxMessages: Infinity,
  auth: job.login ? { user: options.user, pass: options.password } : undefined,
});

function say(answer) {
  process.stdout.write(JSON.stringify(answer) + "\n");
}

async function send(n) {
  for (let sent = 0; sent < n; sent++) {
    await transporter.sendMail({ envelope: { from: sender, to }, raw });
  }
}

// All at once, as its documentation of pools has it; one connection takes them in turn.
async function sendTogether(n) {
  const message = { envelope: { from: sender, to }, raw };
  await Promise.all(Array.from({ length: n }, () => transporter.sendMail(message)));
}

async function run(n) {
  const started = process.hrtime.bigint();
  const before = process.cpuUsage();
  await (what === "batch" ? sendTogether(n) : send(n));
  if (what === "session") {
    transporter.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const used = process.cpuUsage(before);
  const wall = Number(process.hrtime.bigint() - started) / 1e9;
  say({ cpu: (used.user + used.system) / 1e6, wall });
}

async function main() {
  if (what !== "cold") {
    await send(1); // so that there is a connection
  }
  say({ ready: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const question = JSON.parse(line);
    await run(question.n);
  }
  transporter.close();
  process.exit(0);
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
