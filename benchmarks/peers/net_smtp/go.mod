module net_smtp

go 1.19
