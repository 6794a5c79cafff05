// SPDX-License-Identifier: MIT

// A mail service of twenty lines: JSON over HTTP in, a pooled nodemailer out.
//
// Arguments: port of the service, port of the SMTP server, sessions, mails of a session, file of the
// authority to trust.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const nodemailer = require("nodemailer");

const [port, smtpPort, sessions, messages, authority] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host: "localhost",
  port: Number(smtpPort),
  pool: true,
  maxConnections: Number(sessions),
  maxMessages: Number(messages),
  requireTLS: true,
  tls: { ca: fs.readFileSync(authority) },
  auth: { user: "user", pass: "pass" },
});

http
  .createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    try {
      await transport.sendMail(JSON.parse(Buffer.concat(chunks)));
      response.end('{"status":"success"}\n');
    } catch (error) {
      response.end(JSON.stringify({ status: "error", message: error.message }) + "\n");
    }
  })
  .listen(Number(port), "127.0.0.1", 1024);
