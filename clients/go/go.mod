module smtpmailer

go 1.19
