// SPDX-License-Identifier: MIT
/**
 * A client of smtpmailer for Node.js 18 or newer.
 *
 *     import { Client } from './smtpmailer.mjs';
 *
 *     const mailer = new Client({ host: '127.0.0.1', port: 3000, auth: 'password' });
 *     const mail = {
 *       to: [['ada@example.com', 'Ada Löwe']], ccList: [], bccList: [],
 *       subject: 'Hello', body: '<p>Hi</p>',
 *     };
 *     await mailer.sendMail(mail);                // done once the SMTP server has taken it
 *     const name = await mailer.queueMail(mail);  // done once it is safe in the queue
 *
 * A mail is the API's mail object, see docs/reference/api.md. Each call has a connection of its
 * own; calls may run at the same time.
 */

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';

/** Milliseconds for a connection and a TLS session. */
const CONNECT_LIMIT = 10_000;
const ANSWER_LIMIT_BYTES = 64 * 1024 * 1024;

/** The service answered with an error: the same request would fail again. */
export class RefusedError extends Error {
  /** @param {object} answer the whole answer: status, data, message */
  constructor(answer) {
    const texts = [answer.message, answer.data].filter((text) => text !== null);
    super(texts.map((text) => (typeof text === 'string' ? text : JSON.stringify(text))).join(': '));
    this.name = 'RefusedError';
    this.answer = answer;
  }
}

/**
 * There was no answer. When `maybeDone` is true the request was on its way and may have been
 * carried out. The service does not remember requests: sending a mail again may make a second one.
 */
export class UnreachableError extends Error {
  constructor(message, { maybeDone, cause }) {
    super(message, { cause });
    this.name = 'UnreachableError';
    this.maybeDone = maybeDone;
  }
}

export class Client {
  #options;

  /**
   * @param {object} [options]
   * @param {string} [options.host]
   * @param {number} [options.port]
   * @param {boolean} [options.tls] speak TLS; the certificate is always checked
   * @param {string} [options.caFile] PEM file of the authorities to trust; else Node's own
   * @param {string} [options.serverName] the name in the certificate, when it is not `host`
   * @param {string} [options.auth] the service's password (MAILER_AUTH)
   * @param {number} [options.timeout] seconds for a whole call
   */
  constructor(options = {}) {
    this.#options = { host: '127.0.0.1', port: 3000, tls: false, timeout: 330, ...options };
  }

  /**
   * Send a mail now. `more` stands beside the request's name, such as `{ detail: true }`.
   * @returns {Promise<object>} the answer
   * @throws {RefusedError | UnreachableError}
   */
  async sendMail(mail, more = {}) {
    return this.call({ sendMail: mail, ...more });
  }

  /**
   * Queue a mail, which is on stable storage then; `scheduleTime` in it says when to send it.
   * @returns {Promise<string>} the mail's name in the queue
   * @throws {RefusedError | UnreachableError}
   */
  async queueMail(mail, more = {}) {
    const answer = await this.call({ queueMail: mail, ...more });
    return answer.data;
  }

  /**
   * Make any request; its name is the first key.
   * @returns {Promise<object>} the answer of a success
   * @throws {RefusedError | UnreachableError}
   */
  async call(request) {
    const answer = await this.request(request);
    if (answer.status !== 'success') throw new RefusedError(answer);
    return answer;
  }

  /**
   * Make any request; its name is the first key. It gets an `id` when it has none, which the
   * answer has to carry back.
   * @returns {Promise<object>} the answer, also when it is an error
   * @throws {UnreachableError}
   */
  async request(request) {
    const whole = { ...request, id: request.id ?? randomUUID() };
    const line = await this.#exchange(this.#encode(whole), true);
    let answer;
    try {
      answer = JSON.parse(line);
    } catch {
      answer = null;
    }
    if (!['success', 'error'].includes(answer?.status)) {
      throw this.#unreachable(`no answer of smtpmailer: ${JSON.stringify(line.slice(0, 60))}`, true);
    }
    if ((answer.id ?? whole.id) !== whole.id) {
      throw this.#unreachable("another request's answer", true);
    }
    return answer;
  }

  /**
   * Write a request and don't wait for its answer: whether the service took it, nobody will know.
   * @throws {UnreachableError} when it could not be written
   */
  async forget(request) {
    await this.#exchange(this.#encode(request), false);
  }

  #encode(request) {
    // A key without a value is left out.
    return `${JSON.stringify({ ...request, auth: request.auth ?? this.#options.auth })}\n`;
  }

  #unreachable(why, maybeDone, cause) {
    const { host, port } = this.#options;
    return new UnreachableError(`${host}:${port}: ${why}`, { maybeDone, cause });
  }

  #connect() {
    const { host, port, caFile, serverName = host } = this.#options;
    if (!this.#options.tls) return net.connect({ host, port, noDelay: true });
    return tls.connect({
      host,
      port,
      ca: caFile === undefined ? undefined : readFileSync(caFile),
      // An IP address may not be sent as the server's name, but is compared with the certificate.
      servername: net.isIP(serverName) ? '' : serverName,
      checkServerIdentity: (_, certificate) => tls.checkServerIdentity(serverName, certificate),
    });
  }

  /** Write bytes on a connection of their own; give the first line of the answer, if wanted. */
  #exchange(bytes, wantsAnswer) {
    return new Promise((resolve, reject) => {
      const socket = this.#connect();
      const chunks = [];
      let size = 0;
      let written = false;
      const finish = (error, line) => {
        clearTimeout(connecting);
        clearTimeout(waiting);
        if (error || wantsAnswer) socket.destroy();
        if (error) reject(error);
        else resolve(line);
      };
      const connecting = setTimeout(() => {
        finish(this.#unreachable('no connection in time', false));
      }, Math.min(CONNECT_LIMIT, this.#options.timeout * 1000));
      const waiting = setTimeout(() => {
        finish(this.#unreachable('no answer in time', written));
      }, this.#options.timeout * 1000);

      socket.once(this.#options.tls ? 'secureConnect' : 'connect', () => {
        clearTimeout(connecting);
        written = true;
        // TLS has no half-close: ending it would end the wait for the answer as well.
        if (this.#options.tls && wantsAnswer) socket.write(bytes);
        else socket.end(bytes);
      });
      // Once all is out. Under TLS the service is left to close: what it sent has to be read, or
      // closing would be a reset, which takes the request with it.
      if (!this.#options.tls && !wantsAnswer) socket.once('finish', () => socket.destroy());
      socket.on('data', (chunk) => {
        chunks.push(chunk);
        size += chunk.length;
        const whole = chunk.includes(10) || size > ANSWER_LIMIT_BYTES;
        if (whole && wantsAnswer) finish(null, Buffer.concat(chunks).toString().split('\n', 1)[0]);
      });
      socket.once('error', (error) => {
        const what = written ? 'no answer' : 'no connection';
        finish(this.#unreachable(`${what}: ${error.message}`, written, error));
      });
      socket.once('close', () => {
        if (!wantsAnswer) finish(null);
        else finish(this.#unreachable('no answer: the service closed the connection', true));
      });
    });
  }
}
