// SPDX-License-Identifier: MIT

// Sends mails with Go's net/smtp over sessions that stay open, and prints how many seconds it took.
//
// Arguments: port, sessions, mails, file of the authority to trust, file of the message.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int64 {
	value, err := strconv.ParseInt(text, 10, 64)
	check(err)
	return value
}

// Takes mails until none are left.
func send(port string, trust *x509.CertPool, message []byte, left *int64) {
	client, err := smtp.Dial(net.JoinHostPort("localhost", port))
	check(err)
	check(client.Hello("client.example.org"))
	check(client.StartTLS(&tls.Config{ServerName: "localhost", RootCAs: trust}))
	check(client.Auth(smtp.PlainAuth("", "user", "pass", "localhost")))
	for atomic.AddInt64(left, -1) >= 0 {
		check(client.Mail("sender@example.org"))
		check(client.Rcpt("user@example.org"))
		writer, err := client.Data()
		check(err)
		_, err = writer.Write(message)
		check(err)
		check(writer.Close())
	}
	check(client.Quit())
}

func main() {
	port, sessions, left := os.Args[1], number(os.Args[2]), number(os.Args[3])
	authority, err := os.ReadFile(os.Args[4])
	check(err)
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(authority)
	message, err := os.ReadFile(os.Args[5])
	check(err)
	var all sync.WaitGroup
	start := time.Now()
	for i := int64(0); i < sessions; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			send(port, trust, message, &left)
		}()
	}
	all.Wait()
	fmt.Println(time.Since(start).Seconds())
}
