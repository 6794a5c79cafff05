# frozen_string_literal: true

# SPDX-License-Identifier: MIT
require_relative '../../../clients/ruby/smtpmailer'

OPTIONS = { 'caFile' => :ca_file, 'serverName' => :server_name }.freeze
CALLS = { 'sendMail' => :send_mail, 'queueMail' => :queue_mail }.freeze

job = JSON.parse($stdin.read)
begin
  client = SmtpMailer::Client.new(**job['client'].to_h { |k, v| [OPTIONS.fetch(k, k.to_sym), v] })
  result = { done: client.public_send(CALLS.fetch(job['call'], job['call']), job['argument']) }
rescue SmtpMailer::Refused => e
  result = { refused: e.answer, text: e.message }
rescue SmtpMailer::Unreachable => e
  result = { unreachable: e.message, maybeDone: e.maybe_done? }
end
puts JSON.generate(result)
