// SPDX-License-Identifier: MIT

// Sends mails with a pooled nodemailer, and prints how many seconds it took.
//
// Arguments: port, sessions, mails, file of the authority to trust, file of the message.
"use strict";

const fs = require("node:fs");
const nodemailer = require("nodemailer");

const [port, sessions, mails, authority, message] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host: "localhost",
  port: Number(port),
  pool: true,
  maxConnections: Number(sessions),
  maxMessages: Infinity,
  requireTLS: true,
  tls: { ca: fs.readFileSync(authority) },
  auth: { user: "user", pass: "pass" },
});
const envelope = { from: "sender@example.org", to: "user@example.org" };
const raw = fs.readFileSync(message);
let left = Number(mails);

// Takes mails until none are left; several a session wait in nodemailer's own queue.
async function send() {
  while (left-- > 0) await transport.sendMail({ envelope, raw });
}

const start = process.hrtime.bigint();
Promise.all(Array.from({ length: 3 * Number(sessions) }, send)).then(
  () => {
    console.log(Number(process.hrtime.bigint() - start) / 1e9);
    transport.close();
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
