// SPDX-License-Identifier: MIT
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"smtpmailer"
)

type job struct {
	Client struct {
		Host, CaFile, ServerName, Auth string
		Port                           int
		TLS                            bool
		Timeout                        float64
	}
	Call     string
	Argument json.RawMessage
}

// mail is the API's mail object as tests write it.
type mail struct {
	To      []any
	Subject string
	Body    string
}

func main() {
	var j job
	must(json.NewDecoder(os.Stdin).Decode(&j))
	client := &smtpmailer.Client{
		Address:    net.JoinHostPort(j.Client.Host, strconv.Itoa(j.Client.Port)),
		TLS:        j.Client.TLS,
		CAFile:     j.Client.CaFile,
		ServerName: j.Client.ServerName,
		Auth:       j.Client.Auth,
		Timeout:    time.Duration(j.Client.Timeout * float64(time.Second)),
	}
	done, err := run(context.Background(), client, j)
	result := map[string]any{"done": done}
	var refused *smtpmailer.RefusedError
	var unreachable *smtpmailer.UnreachableError
	switch {
	case errors.As(err, &refused):
		result = map[string]any{"refused": refused.Answer, "text": err.Error()}
	case errors.As(err, &unreachable):
		result = map[string]any{"unreachable": err.Error(), "maybeDone": unreachable.MaybeDone}
	default:
		must(err)
	}
	must(json.NewEncoder(os.Stdout).Encode(result))
}

func run(ctx context.Context, client *smtpmailer.Client, j job) (any, error) {
	switch j.Call {
	case "sendMail":
		return nil, client.SendMail(ctx, read(j.Argument))
	case "queueMail":
		return client.QueueMail(ctx, read(j.Argument))
	}
	var whole map[string]json.RawMessage
	must(json.Unmarshal(j.Argument, &whole))
	more := map[string]any{}
	if id, ok := whole["id"]; ok {
		more["id"] = id
		delete(whole, "id")
	}
	for name, argument := range whole {
		if j.Call == "forget" {
			return nil, client.Forget(ctx, name, argument)
		}
		return client.Request(ctx, name, argument, more)
	}
	return nil, fmt.Errorf("no request in %s", j.Argument)
}

func read(raw json.RawMessage) smtpmailer.Mail {
	var given mail
	must(json.Unmarshal(raw, &given))
	made := smtpmailer.Mail{Subject: given.Subject, Body: given.Body}
	for _, each := range given.To {
		switch person := each.(type) {
		case string:
			made.To = append(made.To, smtpmailer.Address{Email: person})
		case []any:
			made.To = append(made.To, smtpmailer.Address{
				Email: person[0].(string), Name: person[1].(string),
			})
		}
	}
	return made
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(70)
	}
}
