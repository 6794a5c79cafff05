// SPDX-License-Identifier: MIT

// Package smtpmailer is a client of the smtpmailer service.
//
//	client := &smtpmailer.Client{Address: "127.0.0.1:3000", Auth: "password"}
//	mail := smtpmailer.Mail{
//		To:      []smtpmailer.Address{{Email: "ada@example.com", Name: "Ada Löwe"}},
//		Subject: "Hello",
//		Body:    "<p>Hi</p>",
//	}
//	err := client.SendMail(ctx, mail)         // returns once the SMTP server has taken it
//	name, err := client.QueueMail(ctx, mail)  // returns once it is safe in the queue
//
// Each call has a connection of its own; a Client may be used by several goroutines at once.
package smtpmailer

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

const (
	defaultTimeout = 330 * time.Second
	connectLimit   = 10 * time.Second
	farewellLimit  = 5 * time.Second
	answerLimit    = 64 << 20
)

// Client talks to one service. Only Address is needed.
type Client struct {
	// Address is host:port.
	Address string
	// TLS says to speak TLS; the certificate is always checked.
	TLS bool
	// CAFile is a PEM file of the authorities to trust; else the system's are.
	CAFile string
	// ServerName is the name in the certificate, when it is not the host.
	ServerName string
	// Auth is the service's password (MAILER_AUTH).
	Auth string
	// Timeout bounds a whole call, besides its context; 330 seconds when it is zero.
	Timeout time.Duration
}

// Mail is the API's mail object: see docs/reference/api.md. What is zero is left out.
type Mail struct {
	To             []Address      `json:"to"`
	Cc             []Address      `json:"ccList"`
	Bcc            []Address      `json:"bccList"`
	ReplyTo        []Address      `json:"replyTo,omitempty"`
	Subject        string         `json:"subject"`
	Body           string         `json:"body,omitempty"`
	UseTemplate    string         `json:"useTemplate,omitempty"`
	ReplaceContent map[string]any `json:"replaceContent,omitempty"`
	// Attachments are a path on the service's machine each, and a name unless it is the path's.
	Attachments [][]string `json:"attachments,omitempty"`
	// Embedded are a path, the cid under which the HTML shows it, and perhaps a name.
	Embedded  [][]string `json:"embedded,omitempty"`
	FromEmail string     `json:"fromEmail,omitempty"`
	FromName  string     `json:"fromName,omitempty"`
	// ScheduleTime is in Unix seconds, for QueueMail only.
	ScheduleTime   int64  `json:"scheduleTime,omitempty"`
	Timeout        int    `json:"timeout,omitempty"`
	SMTPHost       string `json:"smtpHost,omitempty"`
	SMTPPort       int    `json:"smtpPort,omitempty"`
	SMTPEncryption string `json:"smtpEncryption,omitempty"`
	SMTPUser       string `json:"smtpUser,omitempty"`
	SMTPPassword   string `json:"smtpPassword,omitempty"`
}

// MarshalJSON writes absent recipients as empty lists, which the API wants.
func (m Mail) MarshalJSON() ([]byte, error) {
	type plain Mail
	for _, list := range []*[]Address{&m.To, &m.Cc, &m.Bcc} {
		if *list == nil {
			*list = []Address{}
		}
	}
	return json.Marshal(plain(m))
}

// Address is a mail address with an optional display name.
type Address struct{ Email, Name string }

// MarshalJSON writes the address as the API wants it.
func (a Address) MarshalJSON() ([]byte, error) {
	if a.Name == "" {
		return json.Marshal(a.Email)
	}
	return json.Marshal([]string{a.Email, a.Name})
}

// Answer is what the service says to a request. Detail is there when it was asked for.
type Answer struct {
	Status  string          `json:"status"`
	Data    json.RawMessage `json:"data"`
	Message json.RawMessage `json:"message"`
	ID      json.RawMessage `json:"id,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

// RefusedError is an error that the service answered: the same request would fail again.
type RefusedError struct{ Answer Answer }

func (e *RefusedError) Error() string {
	if string(e.Answer.Data) == "null" {
		return fmt.Sprintf("smtpmailer: %s", e.Answer.Message)
	}
	return fmt.Sprintf("smtpmailer: %s: %s", e.Answer.Message, e.Answer.Data)
}

// UnreachableError says that there was no answer. When MaybeDone is true the request was on its way
// and may have been carried out. The service does not remember requests: sending a mail again may
// make a second one.
type UnreachableError struct {
	Address   string
	Err       error
	MaybeDone bool
}

func (e *UnreachableError) Error() string {
	what := "no connection"
	if e.MaybeDone {
		what = "no answer"
	}
	return fmt.Sprintf("smtpmailer: %s: %s: %v", e.Address, what, e.Err)
}

// Unwrap gives what was behind it.
func (e *UnreachableError) Unwrap() error { return e.Err }

// SendMail sends a mail now. Its error is a *RefusedError or an *UnreachableError.
func (c *Client) SendMail(ctx context.Context, mail Mail) error {
	_, err := c.Call(ctx, "sendMail", mail)
	return err
}

// QueueMail queues a mail, which is on stable storage then, and gives its name in the queue. Its
// error is a *RefusedError or an *UnreachableError.
func (c *Client) QueueMail(ctx context.Context, mail Mail) (string, error) {
	answer, err := c.Call(ctx, "queueMail", mail)
	if err != nil {
		return "", err
	}
	var name string
	return name, json.Unmarshal(answer.Data, &name)
}

// Call makes any request and gives the answer of a success. Its error is a *RefusedError, an
// *UnreachableError, or one of encoding/json.
func (c *Client) Call(ctx context.Context, name string, argument any) (Answer, error) {
	answer, err := c.Request(ctx, name, argument, nil)
	if err == nil && answer.Status != "success" {
		return answer, &RefusedError{answer}
	}
	return answer, err
}

// Request makes any request and gives the answer, also when it is an error. The keys of more stand
// beside the request's name, such as "detail": true. The request gets an "id" when it has none; one
// that is a string has to come back in the answer. Its error is an *UnreachableError or one of
// encoding/json.
func (c *Client) Request(
	ctx context.Context, name string, argument any, more map[string]any,
) (Answer, error) {
	keys := map[string]any{"id": newID()}
	for key, value := range more {
		keys[key] = value
	}
	request, err := c.encode(name, argument, keys)
	if err != nil {
		return Answer{}, err
	}
	connection, err := c.connect(ctx)
	if err != nil {
		return Answer{}, err
	}
	defer connection.Close()
	defer watch(ctx, connection)()
	answer, err := exchange(connection, request, keys["id"])
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return Answer{}, &UnreachableError{c.Address, err, true}
	}
	return answer, nil
}

// Forget writes a request and does not wait for its answer: whether the service took it, nobody
// will know. Its error, an *UnreachableError or one of encoding/json, says that it was not written.
func (c *Client) Forget(ctx context.Context, name string, argument any) error {
	request, err := c.encode(name, argument, nil)
	if err != nil {
		return err
	}
	connection, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer connection.Close()
	defer watch(ctx, connection)()
	_, err = connection.Write(request)
	if err == nil {
		err = connection.CloseWrite()
	}
	if err != nil {
		return &UnreachableError{c.Address, err, true}
	}
	if c.TLS {
		// TLS 1.3 tickets that lie unread would make closing a reset, which takes the request
		// with it: read until the service closes.
		connection.SetDeadline(time.Now().Add(farewellLimit))
		io.Copy(io.Discard, connection)
	}
	return nil
}

// encode writes the request's name first, as the API wants it.
func (c *Client) encode(name string, argument any, more map[string]any) ([]byte, error) {
	keys := make(map[string]any, len(more)+1)
	if c.Auth != "" {
		keys["auth"] = c.Auth
	}
	for key, value := range more {
		keys[key] = value
	}
	first, err := json.Marshal(map[string]any{name: argument})
	if err != nil || len(keys) == 0 {
		return append(first, '\n'), err
	}
	rest, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	first[len(first)-1] = ','
	return append(append(first, rest[1:]...), '\n'), nil
}

// conn is what TCP and TLS connections have in common.
type conn interface {
	net.Conn
	CloseWrite() error
}

func (c *Client) connect(ctx context.Context) (conn, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	deadline := time.Now().Add(timeout)
	if limit, ok := ctx.Deadline(); ok && limit.Before(deadline) {
		deadline = limit
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	dialer := &net.Dialer{Timeout: connectLimit}
	connection, err := c.dial(ctx, dialer)
	if err != nil {
		return nil, &UnreachableError{c.Address, err, false}
	}
	return connection, connection.SetDeadline(deadline)
}

func (c *Client) dial(ctx context.Context, dialer *net.Dialer) (conn, error) {
	if !c.TLS {
		connection, err := dialer.DialContext(ctx, "tcp", c.Address)
		if err != nil {
			return nil, err
		}
		return connection.(*net.TCPConn), nil
	}
	config := &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New(c.CAFile + " holds no certificate")
		}
	}
	secure := &tls.Dialer{NetDialer: dialer, Config: config}
	connection, err := secure.DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return nil, err
	}
	return connection.(*tls.Conn), nil
}

// watch ends a connection's waits when the context ends, until the function it gives is called.
func watch(ctx context.Context, connection net.Conn) func() {
	done := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			connection.SetDeadline(time.Unix(1, 0))
		case <-done:
		}
	}()
	return func() { close(done) }
}

// exchange writes a request and reads the line that answers it.
func exchange(connection conn, request []byte, id any) (Answer, error) {
	_, failed := connection.Write(request)
	if _, plain := connection.(*net.TCPConn); plain && failed == nil {
		// TLS has no half-close: closing it would end the wait for the answer as well.
		failed = connection.CloseWrite()
	}
	// The service may have answered and closed without reading everything.
	line, err := bufio.NewReader(io.LimitReader(connection, answerLimit)).ReadBytes('\n')
	if err != nil {
		if failed != nil {
			err = failed
		}
		return Answer{}, err
	}
	return decode(line, id)
}

func decode(line []byte, id any) (Answer, error) {
	var answer Answer
	err := json.Unmarshal(line, &answer)
	if err != nil || answer.Status != "success" && answer.Status != "error" {
		return answer, fmt.Errorf("this is not an answer of smtpmailer: %.60q", line)
	}
	if text, ok := id.(string); ok && answer.ID != nil {
		var other string
		if json.Unmarshal(answer.ID, &other) != nil || other != text {
			return answer, fmt.Errorf("the answer belongs to another request: %s", answer.ID)
		}
	}
	return answer, nil
}

func newID() string {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		panic(err) // the system has no randomness: nothing is safe
	}
	return hex.EncodeToString(id)
}
