module github.com/postbus/postbus

go 1.26
