module trivec.example/embed

go 1.19
