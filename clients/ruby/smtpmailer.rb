# frozen_string_literal: true

# SPDX-License-Identifier: MIT
#
# A client of smtpmailer for Ruby 3.0 or newer.
#
#     require_relative 'smtpmailer'
#
#     mailer = SmtpMailer::Client.new(host: '127.0.0.1', port: 3000, auth: 'password')
#     mail = {
#       to: [['ada@example.com', 'Ada Löwe']], ccList: [], bccList: [],
#       subject: 'Hello', body: '<p>Hi</p>'
#     }
#     mailer.send_mail(mail)          # returns once the SMTP server has taken it
#     name = mailer.queue_mail(mail)  # returns once it is safe in the queue
#
# A mail is the API's mail object, see docs/reference/api.md. Each call has a connection of its own;
# threads may share a client.

require 'io/wait'
require 'json'
require 'openssl'
require 'securerandom'
require 'socket'

module SmtpMailer
  # The service answered with an error: the same request would fail again.
  class Refused < StandardError
    # The whole answer: status, data, message.
    attr_reader :answer

    def initialize(answer)
      @answer = answer
      texts = answer.values_at('message', 'data').compact
      super(texts.map { |text| text.is_a?(String) ? text : JSON.generate(text) }.join(': '))
    end
  end

  # There was no answer. When `maybe_done?` is true the request was on its way and may have been
  # carried out. The service does not remember requests: sending a mail again may make a second one.
  class Unreachable < StandardError
    def initialize(message, maybe_done:)
      @maybe_done = maybe_done
      super(message)
    end

    def maybe_done?
      @maybe_done
    end
  end

  # Talks to one service.
  class Client
    CONNECT_LIMIT = 10.0
    FAREWELL_LIMIT = 5.0
    ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
    CHUNK_BYTES = 65_536
    private_constant :CONNECT_LIMIT, :FAREWELL_LIMIT, :ANSWER_LIMIT_BYTES, :CHUNK_BYTES

    # tls:         speak TLS; the certificate is always checked
    # ca_file:     PEM file of the authorities to trust; else the system's
    # server_name: the name in the certificate, when it is not the host
    # auth:        the service's password (MAILER_AUTH)
    # timeout:     seconds for a whole call
    def initialize(host: '127.0.0.1', port: 3000, tls: false, ca_file: nil, server_name: nil,
                   auth: nil, timeout: 330)
      @host = host
      @port = port
      @tls = tls
      @ca_file = ca_file
      @server_name = server_name || host
      @auth = auth
      @timeout = timeout
    end

    # Send a mail now; returns the answer. `more` stands beside the request's name, such as
    # `detail: true`. Raises Refused or Unreachable.
    def send_mail(mail, **more)
      call({ sendMail: mail, **more })
    end

    # Queue a mail, which is on stable storage then; returns its name in the queue. `scheduleTime` in
    # the mail says when to send it. Raises Refused or Unreachable.
    def queue_mail(mail, **more)
      call({ queueMail: mail, **more })['data']
    end

    # Make any request, its name being the first key; returns the answer of a success. Raises Refused
    # or Unreachable.
    def call(request)
      answer = request(request)
      raise Refused, answer unless answer['status'] == 'success'

      answer
    end

    # Make any request, its name being the first key; returns the answer, also when it is an error.
    # It gets an `id` when it has none, which the answer has to carry back. Raises Unreachable.
    def request(request)
      request = { **request, id: SecureRandom.uuid } unless request.key?(:id) || request.key?('id')
      bytes = encode(request)
      deadline = now + @timeout
      line = connected(deadline) do |socket|
        written = write(socket, bytes, deadline)
        # TLS has no half-close: closing it would end the wait for the answer as well.
        socket.close_write if written && !@tls
        # The service may have answered and closed without reading everything.
        read_line(socket, deadline)
      end
      decode(line, request[:id] || request['id'])
    end

    # Write a request and don't wait for its answer: whether the service took it, nobody will know.
    # Raises Unreachable when it could not be written.
    def forget(request)
      bytes = encode(request)
      deadline = now + @timeout
      connected(deadline) do |socket|
        raise unreachable('not written', maybe_done: true) unless write(socket, bytes, deadline)

        socket.to_io.shutdown(Socket::SHUT_WR)
        # TLS 1.3 tickets that lie unread would make closing a reset, which takes the request with
        # it: read until the service closes.
        limit = now + FAREWELL_LIMIT
        nil while @tls && read_some(socket, limit)
      end
      nil
    end

    private

    def encode(request)
      request = { **request, auth: @auth } unless @auth.nil?
      "#{JSON.generate(request)}\n"
    end

    def decode(line, id)
      answer = begin
        JSON.parse(line)
      rescue JSON::ParserError
        nil
      end
      unless answer.is_a?(Hash) && %w[success error].include?(answer['status'])
        raise unreachable("no answer of smtpmailer: #{line[0, 60].inspect}", maybe_done: true)
      end
      raise unreachable("another request's answer", maybe_done: true) if answer.fetch('id', id) != id

      answer
    end

    def connected(deadline)
      socket = connect(deadline)
      yield socket
    ensure
      socket&.close
    end

    def connect(deadline)
      limit = [now + CONNECT_LIMIT, deadline].min
      tcp = Socket.tcp(@host, @port, connect_timeout: limit - now)
      tcp.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
      @tls ? secure(tcp, limit) : tcp
    rescue SystemCallError, SocketError, OpenSSL::SSL::SSLError => e
      tcp&.close
      raise unreachable("no connection: #{e.message}", maybe_done: false)
    end

    def secure(tcp, limit)
      # An IP address is not sent as the server's name; post_connection_check compares either.
      named = !@server_name.match?(/\A[\d.]+\z|:/)
      context = OpenSSL::SSL::SSLContext.new
      context.set_params(ca_file: @ca_file, min_version: OpenSSL::SSL::TLS1_2_VERSION,
                         verify_hostname: named)
      socket = OpenSSL::SSL::SSLSocket.new(tcp, context)
      socket.sync_close = true
      socket.hostname = @server_name if named
      while (state = socket.connect_nonblock(exception: false)).is_a?(Symbol)
        raise Errno::ETIMEDOUT unless wait(socket, state, limit)
      end
      socket.post_connection_check(@server_name)
      socket
    end

    def write(socket, bytes, deadline)
      until bytes.empty?
        count = socket.write_nonblock(bytes, exception: false)
        return false if count.is_a?(Symbol) && !wait(socket, count, deadline)

        bytes = bytes.byteslice(count..) if count.is_a?(Integer)
      end
      true
    rescue SystemCallError, IOError, OpenSSL::SSL::SSLError
      false
    end

    def read_line(socket, deadline)
      line = String.new
      until line.include?("\n") || line.bytesize > ANSWER_LIMIT_BYTES
        chunk = read_some(socket, deadline)
        if chunk.nil?
          why = now >= deadline ? ' in time' : ': the service closed the connection'
          raise unreachable("no answer#{why}", maybe_done: true)
        end
        line << chunk
      end
      line.force_encoding(Encoding::UTF_8)
    end

    # Returns some bytes, or nil when none will come.
    def read_some(socket, deadline)
      loop do
        chunk = socket.read_nonblock(CHUNK_BYTES, exception: false)
        return chunk unless chunk.is_a?(Symbol)
        return nil unless wait(socket, chunk, deadline)
      end
    rescue SystemCallError, IOError, OpenSSL::SSL::SSLError
      nil
    end

    def wait(socket, what, deadline)
      left = deadline - now
      return false unless left.positive?

      what == :wait_readable ? socket.to_io.wait_readable(left) : socket.to_io.wait_writable(left)
    end

    def unreachable(why, maybe_done:)
      host = @host.include?(':') ? "[#{@host}]" : @host
      Unreachable.new("#{host}:#{@port}: #{why}", maybe_done: maybe_done)
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
