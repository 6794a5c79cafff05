// SPDX-License-Identifier: MIT
import { readFileSync } from 'node:fs';

import { Client, RefusedError, UnreachableError } from '../../../clients/node/smtpmailer.mjs';

const job = JSON.parse(readFileSync(0));
let result;
try {
  const client = new Client(job.client);
  result = { done: (await client[job.call](job.argument)) ?? null };
} catch (error) {
  if (error instanceof RefusedError) result = { refused: error.answer, text: error.message };
  else if (error instanceof UnreachableError) {
    result = { unreachable: error.message, maybeDone: error.maybeDone };
  } else throw error;
}
console.log(JSON.stringify(result));
