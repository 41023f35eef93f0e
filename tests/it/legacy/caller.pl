#!/usr/bin/perl
# LWP: one call of each kind, a line for each.
use strict;
use warnings;
use HTTP::Request;
use LWP::UserAgent;

my ($base, $hash) = @ARGV;
my $body = 'k' x 100_000;
my $agent = LWP::UserAgent->new(keep_alive => 1, timeout => 20);

my $get = $agent->get("$base/bytes/1000");
print 'get ', ($get->code == 200 && length $get->content == 1000 ? 'ok' : $get->status_line), "\n";

# LWP stops sending where an answer begins: what tells of a body must have read all of it.
sub reported {
    my ($what, $answer) = @_;
    print "$what ", ($answer->content =~ /$hash/ ? 'ok' : $answer->as_string), "\n";
}

reported('post', $agent->post("$base/report", 'Content-Type' => 'text/plain', Content => $body));

my @parts = $body =~ /(.{1,30000})/gs;
my $chunked = HTTP::Request->new(POST => "$base/report", ['Content-Type' => 'text/plain']);
$chunked->content(sub { shift(@parts) // '' });
reported('chunked', $agent->request($chunked));

my $expect = HTTP::Request->new(POST => "$base/report", ['Content-Type' => 'text/plain', 'Expect' => '100-continue'], $body);
reported('expect', $agent->request($expect));
